"""A tuned model's export: an adapter on a processor, merged into a base of its own on a GPU; sampled alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.gpus import lent_gpu
from helpers.models import make_adapter
from helpers.paths import TINY

from qrft.config.load import load
from qrft.data import schema
from qrft.models.find import BUILTIN
from qrft.models.gguf.base import export_base
from qrft.pipeline.flow import plan
from qrft.pipeline.graph import Step
from qrft.pipeline.stages import Job, export, sample

JOB = Job(num_threads=1)
BASE = BUILTIN["tiny-base"]
RECIPE = ["gguf.quant=f32", "evaluate.max_new_tokens=12", "evaluate.maj_at=[]", "evaluate.pass_at=[]"]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the steps before would have made: problems, the base's file, an adapter."""
    root = tmp_path_factory.mktemp("artifacts")
    questions = [f"Leo has {i} apples and Cora has {i + 3}. How many have they?" for i in range(10)]
    rows = [[str(i) for i in range(10)], questions, ["#### 3"] * 10, ["3"] * 10]
    (root / "problems").mkdir()
    pq.write_table(pa.table(rows, schema=schema.PROBLEMS), root / "problems/problems.parquet")
    (root / "base").mkdir()
    export_base(BASE, root / "base/base.gguf", "f32")
    make_adapter(root / "adapter/adapter", BASE)
    return {"model": BASE, **{name: root / name for name in ("problems", "base", "adapter")}}


def step(path: str) -> Step:
    return next(step for step in plan(load(TINY, RECIPE), BASE) if step.path == path)


def made_and_sampled(artifacts: dict[str, Path], out: Path) -> tuple[set[str], Any, list[str]]:
    """Return the files of the export, its facts, and what the model answers."""
    exported, sampled = step("sft/gguf"), step("sft/test-samples")
    (out / "export").mkdir(parents=True)
    facts = export.run({name: artifacts[name] for name in exported.inputs}, out / "export", exported.settings, JOB)
    names = {"model", "problems", "base", "adapter"}
    assert sampled.inputs.keys() == names and sampled.inputs["adapter"] is not exported
    inputs = {**{name: artifacts[name] for name in names}, "adapter": out / "export"}
    (out / "samples/partial").mkdir(parents=True)
    sample.run(inputs, out / "samples", sampled.settings, JOB)
    texts = pq.read_table(out / "samples/samples.parquet")["completion"].to_pylist()
    return {path.name for path in (out / "export").iterdir()}, facts, texts


@pytest.mark.lent_gpu
def test_an_adapter_is_merged_where_llama_cpp_has_a_gpu(artifacts: dict[str, Path], tmp_path: Path) -> None:
    apart, facts, texts = made_and_sampled(artifacts, tmp_path / "processor")
    assert apart == {"adapter.gguf"} and facts["max_logit_difference"] < 0.01
    with lent_gpu(256 * 2**20) as gpu, gpu.used():
        merged, facts, merged_texts = made_and_sampled(artifacts, tmp_path / "gpu")
    assert merged == {"base.gguf"} and facts["max_logit_difference"] < 0.01
    assert merged_texts == texts and len(set(texts)) > 5
