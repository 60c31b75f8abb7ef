"""`qrft run` with each sampler: whole tiny runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from helpers.servers import llama_server

from qrft.cli.main import main
from qrft.models.find import BUILTIN
from qrft.models.gguf.base import export_base

RECIPE = """
base_model: tiny-base
problems: {train: tiny-math/train, test: tiny-math/test, num_train: 6, num_test: 3}
train: {lora_r: 4, num_epochs: 1, micro_batch_size: 8}
sample: {num_samples: 3, temperature: 1.0, max_new_tokens: 32}
evaluate: {max_new_tokens: 32}
num_threads: 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder for all runs: what does not depend on the sampler is made once."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        Path("recipe.yaml").write_text(RECIPE)
        yield folder


def run(name: str, *settings: str) -> tuple[int, str]:
    """The exit code of a run, and its error."""
    words = ["run", "recipe.yaml", "--set", f"name={name}", *(word for one in settings for word in ("--set", one))]
    done = CliRunner().invoke(main, words)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stderr


def samples(run: str, step: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(Path("runs") / run / step / "samples.parquet").to_pylist()
    return rows


@pytest.mark.usefixtures("folder")
def test_transformers_samples_what_llama_cpp_samples_without_a_gguf_file() -> None:
    assert run("llama", "gguf.quant=f32") == (0, "")
    assert run("torch", "sample.sampler=transformers") == (0, "")
    made = {name: sorted(path.name for path in Path("runs", name, "sft").iterdir()) for name in ("llama", "torch")}
    assert made["torch"] == ["test-graded", "test-samples", "train", "training"]
    assert made["llama"] == ["gguf", *made["torch"]]
    trained = [Path("runs", name, "sft/train").resolve() for name in ("llama", "torch")]
    assert trained[0] == trained[1]
    for step in ("base/test-samples", "sft/test-samples", "round-1/samples"):
        pairs = list(zip(samples("llama", step), samples("torch", step), strict=True))
        assert [left["problem_id"] for left, _ in pairs] == [right["problem_id"] for _, right in pairs]
        # The same random streams: samples differ only where the logits do in their last bits.
        assert sum(left["completion"] == right["completion"] for left, right in pairs) >= 0.8 * len(pairs)


@pytest.mark.usefixtures("folder")
def test_a_server_samples_what_a_person_serves_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    gguf = tmp_path_factory.mktemp("base") / "base.gguf"
    export_base(BUILTIN["tiny-base"], gguf, "f32")
    served: dict[str, tuple[Path, Path | None]] = {"served-base": (gguf, None)}
    asked = ["sample.sampler=openai", "sample.server_model=served-base"]
    for phase in ("sft", "rft"):
        with llama_server(tmp_path_factory.mktemp("server"), served) as url:
            code, error = run("server", *asked, f"sample.server={url}")
        lacking = re.search(rf"the server has no model '({phase}-[0-9a-f]{{12}})'\.", error)
        adapter = re.search(r"llama-server: --lora (.*\.gguf)", error)
        assert code == 1 and lacking is not None and adapter is not None, error
        served[lacking[1]] = (gguf, Path(adapter[1]))
    with llama_server(tmp_path_factory.mktemp("server"), served) as url:
        assert run("server", *asked, f"sample.server={url}") == (0, "")
    assert json.loads(Path("runs/server/summary.json").read_text()).keys() >= {"base", "sft", "rft"}
    assert {row["model"] for row in samples("server", "round-1/samples")} == {"sft"}
    # Greedy answers follow from the model alone, whatever samples it.
    assert run("llama", "gguf.quant=f32") == (0, "")
    for step in ("base/test-samples", "sft/test-samples"):
        pairs = zip(samples("llama", step), samples("server", step), strict=True)
        assert all(left["completion"] == right["completion"] for left, right in pairs)
