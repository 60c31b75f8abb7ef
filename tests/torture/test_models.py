"""Model folders, templates, adapters and GGUF files are untrusted: whatever is in them, a command works or says in one
message what is wrong, within bounded time and memory; no code runs and nothing outside its folder is touched."""

from __future__ import annotations

import json
import random
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers.hostile import damaged, with_a_strange_value
from helpers.models import make_adapter, make_model

from qrft.cli.main import main
from qrft.models.gguf.adapter import export_adapter
from qrft.models.gguf.base import export_base

SECONDS = 60.0  # of a command on a hostile folder, on a busy machine
MEMORY = 2 * 2**30  # that the commands on all folders may take beside what torch does
EVIL = "from pathlib import Path\nPath({marker!r}).touch()\nclass Evil: pass\n"
TEMPLATE = "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
PIECES = [
    *("{% for m in messages %}", "{% endfor %}", "{% if m %}", "{% endif %}", "{{ m.content }}", "{{ self }}", "\x00"),
    *("{% set x = x ~ messages %}", "{{ ''.__class__.__mro__ }}", "{% for i in range(99999) %}", "{{ 'x' * 10 ** 9 }}"),
    *("{{ x.append(1) }}", "{{ cycler }}", "{{ raise_exception(1) }}", "{% include 'evil.py' %}", "{% generation %}"),
    *("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ lipsum.__globals__ }}", "{{ '%0999999999d' % 1 }}"),
    "{{ messages | tojson(indent=99) }}",
]

Change = Callable[[Path, random.Random], None]


def strange_json(name: str) -> Change:
    def change(folder: Path, rng: random.Random) -> None:
        path = folder / name
        path.write_bytes(with_a_strange_value(json.loads(path.read_bytes()), rng))

    return change


def strange_sizes(folder: Path, rng: random.Random) -> None:
    """One or two numbers of config.json are others."""
    path = folder / "config.json"
    config = json.loads(path.read_bytes())
    keys = [key for key, value in config.items() if isinstance(value, int | float)]
    for key in rng.sample(keys, rng.randint(1, 2)):
        config[key] = rng.choice([0, -1, 1, 3, 7, 2**20, 10**7, 2**31, 2**40, 0.5, 1e300, True, None, "64", [64], {}])
    path.write_text(json.dumps(config))


def damaged_file(pattern: str) -> Change:
    def change(folder: Path, rng: random.Random) -> None:
        path = rng.choice(sorted(folder.glob(pattern)))
        path.write_bytes(damaged(path.read_bytes(), rng))

    return change


def strange_header(pattern: str) -> Change:
    """The header of a safetensors file has another value in it, of the length that the file says."""

    def change(folder: Path, rng: random.Random) -> None:
        path = rng.choice(sorted(folder.glob(pattern)))
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = with_a_strange_value(json.loads(content[8 : 8 + length]), rng)
        said = rng.choice([len(header), len(header), len(header), 0, 2**63, 2**32])
        path.write_bytes(said.to_bytes(8, "little") + header + content[8 + length :])

    return change


def strange_index(folder: Path, rng: random.Random) -> None:
    names: list[Any] = [
        "model.safetensors",
        "../model.safetensors",
        "/etc/passwd",
        "",
        3,
        None,
        ["a"],
        "no.safetensors",
    ]
    weights = {f"w{number}": rng.choice(names) for number in range(3)}
    index = rng.choice([{"weight_map": weights}, {"weight_map": rng.choice(names)}, weights, [weights]])
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def strange_template(folder: Path, rng: random.Random) -> None:
    text = "".join(rng.choice([*PIECES, TEMPLATE]) for _ in range(rng.randint(1, 5)))
    (folder / "chat_template.jinja").write_text(text)


def strange_file(folder: Path, rng: random.Random) -> None:
    """A file is gone, empty, a folder, or a link that leads nowhere."""
    path = rng.choice(sorted(path for path in folder.iterdir() if path.is_file()))
    path.unlink()
    rng.choice([lambda: None, path.touch, path.mkdir, lambda: path.symlink_to("nowhere")])()


def code(folder: Path, rng: random.Random) -> None:
    """The folder names code, for any of what transformers loads."""
    names = ["AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoTokenizer", "AutoProcessor"]
    of = {name: rng.choice(["evil.Evil", "other/repo--evil.Evil", ["evil.Evil", None]]) for name in names}
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        path = folder / name
        if path.is_file() and rng.random() < 0.7:
            content = json.loads(path.read_bytes()) | {"auto_map": of}
            path.write_text(json.dumps(content | rng.choice([{}, {"model_type": "evil"}, {"tokenizer_class": "Evil"}])))


MODELS: dict[str, Change] = {
    **{f"strange {name}": strange_json(name) for name in ("config.json", "tokenizer.json", "tokenizer_config.json")},
    "strange generation_config.json": strange_json("generation_config.json"),
    "strange sizes": strange_sizes,
    "damaged weights": damaged_file("*.safetensors"),
    "damaged text": damaged_file("*.json"),
    "strange header": strange_header("*.safetensors"),
    "strange index": strange_index,
    "strange template": strange_template,
    "strange file": strange_file,
    "code": code,
}
ADAPTERS: dict[str, Change] = {
    "strange adapter_config.json": strange_json("adapter_config.json"),
    "damaged adapter": damaged_file("adapter_model.safetensors"),
    "strange adapter header": strange_header("adapter_model.safetensors"),
    "strange adapter file": strange_file,
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, an adapter, the GGUF files of both, and what the commands read beside them."""
    root = tmp_path_factory.mktemp("sound")
    model = make_model(root / "model", num_hidden_layers=1)
    (model / "chat_template.jinja").write_text(TEMPLATE)
    make_adapter(root / "adapter", model)
    export_base(model, root / "base.gguf")
    export_adapter(root / "adapter", model, root / "lora.gguf")
    (root / "rows.jsonl").write_text('{"question": "3 and 4?", "completion": "#### 7"}\n')
    (root / "problems.jsonl").write_text('{"problem_id": "a", "question": "3 and 4?", "answer": "7"}\n')
    (root / "text.txt").write_text("Tom has 12 apples.\n")
    recipe = "{name: run, base_model: model, problems: {train: problems.jsonl, test: problems.jsonl}}"
    (root / "recipe.yaml").write_text(recipe)
    return root


SAMPLE = ["--problems", "problems.jsonl", "-k", "1", "--max-new-tokens", "2", "--threads", "1", "-o", "out"]
COMMANDS: dict[str, list[str]] = {
    "transformers": ["sample", "model", "--sampler", "transformers", *SAMPLE],
    "chat": ["sample", "model", "--sampler", "transformers", "--prompt", "chat", *SAMPLE],
    "llama.cpp": ["sample", "model", "--quant", "f32", "--no-parity", *SAMPLE],
    "adapter": ["sample", "model", "--sampler", "transformers", "--adapter", "adapter", *SAMPLE],
    "adapter gguf": ["sample", "model", "--quant", "f32", "--no-parity", "--adapter", "adapter", *SAMPLE],
    "loss": ["loss", "model", "--text", "text.txt", "--context", "16"],
    "train": [
        *("train", "model", "--data", "rows.jsonl", "-o", "out", "--threads", "1"),
        *("--set", "num_epochs=1", "--set", "quantization=none"),
    ],
    "plan": ["plan", "recipe.yaml"],
    "gguf": ["sample", "base.gguf", "--tokenizer", "model", "--no-parity", *SAMPLE],
}


def run_command(words: list[str]) -> str:
    """Run a command; return its message, or "" where it works. Anything but these two is a failure."""
    started = time.monotonic()
    done = CliRunner().invoke(main, words, input="y\n" * 9)
    said = f"{words}: {done.output[-2000:]}"
    assert time.monotonic() - started < SECONDS, said
    assert done.exception is None or isinstance(done.exception, SystemExit), f"{words}: {done.exception!r}"
    assert "Traceback" not in done.output and "[y/N]" not in done.output, said
    if done.exit_code == 0:
        return ""
    assert done.exit_code in (1, 2) and done.stderr.count("Error: ") >= 1, said
    return done.stderr.partition("Error: ")[2]


def trial(change: Change, part: str, command: str, seed: str, sound: Path, folder: Path) -> None:
    """Run a command on a copy of the sound folder in which one part is changed."""
    shutil.copytree(sound, folder)
    marker = folder.parent / "ran"
    (folder / "model" / "evil.py").write_text(EVIL.format(marker=str(marker)))
    change(folder / part, random.Random(seed))
    beside = sorted(path for path in folder.parent.iterdir() if path != folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        run_command(COMMANDS[command])
    assert sorted(path for path in folder.parent.iterdir() if path != folder) == beside, "something outside was touched"
    assert not marker.exists(), "code was run"
    shutil.rmtree(folder)


def some(short: int, whole: int) -> list[Any]:
    """Return the numbers of trials of a kind: few by default, all with -m torture."""
    return [*range(short), *(pytest.param(number, marks=pytest.mark.torture) for number in range(short, whole))]


@pytest.fixture(scope="module", autouse=True)
def bounded_memory(sound: Path) -> Any:
    import peft  # noqa: F401 # what the libraries take is no part of the bound
    import torch  # noqa: F401

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < MEMORY


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("number", some(1, 30))
def test_a_hostile_model(number: int, kind: str, sound: Path, tmp_path: Path) -> None:
    used = ["transformers", "chat", "llama.cpp", "loss", "train", "plan"]
    command = "chat" if kind == "strange template" else used[number % len(used)]
    trial(MODELS[kind], "model", command, f"{kind} {number}", sound, tmp_path / "work")


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("number", some(1, 25))
def test_a_hostile_adapter(number: int, kind: str, sound: Path, tmp_path: Path) -> None:
    command = ["adapter", "adapter gguf"][number % 2]
    trial(ADAPTERS[kind], "adapter", command, f"{kind} {number}", sound, tmp_path / "work")


@pytest.mark.parametrize("name", ["base.gguf", "lora.gguf"])
@pytest.mark.parametrize("number", some(1, 25))
def test_a_hostile_gguf(number: int, name: str, sound: Path, tmp_path: Path) -> None:
    """Damage to the header and to the data: llama.cpp itself reads what the check before lets through."""

    def change(folder: Path, rng: random.Random) -> None:
        content = (folder / name).read_bytes()
        length = rng.choice([64, 4096, len(content)])
        (folder / name).write_bytes(damaged(content[:length], rng) + content[length:])

    with pytest.MonkeyPatch.context() as patch:
        if name == "lora.gguf":
            patch.setitem(COMMANDS, "gguf", [*COMMANDS["gguf"], "--adapter", "lora.gguf"])
        trial(change, "", "gguf", f"{name} {number}", sound, tmp_path / "work")
