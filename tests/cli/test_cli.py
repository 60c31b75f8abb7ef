"""The command line: every bad input ends in one clear message, before any work, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from helpers.commands import command_line, fails, fails_at_once, python, run_process, run_qrft
from helpers.paths import RECIPES, ROOT

from qrft import errors
from qrft.cli.main import main
from qrft.config.load import load
from qrft.config.pretrain import PretrainRecipe
from qrft.config.recipe import Recipe
from qrft.config.sections import Sample
from qrft.data import disk
from qrft.data.problems.registry import BY_NAME
from qrft.data.problems.table import WITHOUT_ANSWERS
from qrft.models.find import BUILTIN

SHIPPED = sorted(RECIPES.glob("*.yaml"))
PRETRAIN = ("tiny-base.yaml", "tiny-family.yaml")
RECIPE = """\
name: mine
base_model: tiny-base
problems: {train: train.jsonl, test: test.jsonl}
"""
PROBLEMS = f"Allowed: a file (JSONL, JSON, CSV, Parquet), or one of the sets {', '.join(BY_NAME)}"
MODELS = "Allowed: a model folder, a GGUF file, a hub name org/model, or one of tiny-base, smollm2-135m"
PROBLEM = '{"question": "Tom has 2 apples and buys 3. How many?", "answer": "2+3=<<2+3=5>>5\\n#### 5"}\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a recipe, two files of problems, and nothing else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")  # else `qrft run` sets both, for the tests that follow too
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    (tmp_path / "r.yaml").write_text(RECIPE)
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(PROBLEM)
    return tmp_path


@pytest.fixture
def model(folder: Path) -> Path:
    """A base model's folder of our own, to be damaged."""
    return Path(shutil.copytree(BUILTIN["tiny-base"], folder / "model"))


def artifacts(runs: Path = Path("runs")) -> list[str]:
    """The stages that have an artifact."""
    return sorted(path.name.partition("-")[0] for path in (runs / "store").glob("*-*"))


def half_written(runs: Path = Path("runs")) -> list[Path]:
    """Files of a run that are visible though no artifact holds them, but for the recipe."""
    files = [path for path in runs.rglob("*") if path.is_file() and path.relative_to(runs).parts[0] != "store"]
    return [path for path in files if path.name not in ("recipe.yaml", ".lock") and not path.is_symlink()]


# ------------------------------------------------------------------------------------------------- what is always there


def test_help_lists_the_commands() -> None:
    shown = run_qrft("--help")
    for name, command in main.commands.items():
        assert re.search(rf"^  {name}  +\S", shown.output, re.MULTILINE)
        assert command.help and run_qrft(name, "-h").output
    assert "..." not in shown.output.partition("Commands:")[2], "what a command does fits into its line"
    assert {"run", "plan", "schema", "pretrain"} <= set(main.commands)


@pytest.mark.parametrize("name", main.commands)
def test_each_help_has_an_example_in_80_columns(name: str) -> None:
    shown = run_qrft(name, "--help").output
    assert re.search(rf"Examples?:\s+(rm .* && )?qrft {name}\b", shown), shown[:500]
    assert max(map(len, shown.splitlines())) <= 80


def test_no_help_imports_what_is_slow() -> None:
    code = """
        import sys
        from click.testing import CliRunner
        from qrft.cli.main import main
        for name in main.commands:
            assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0
            print(name, *sorted({"numpy", "pyarrow", "torch", "transformers"} & set(sys.modules)))
    """
    assert run_process(python(code)).stdout.splitlines() == [*main.commands]


def test_version() -> None:
    assert re.search(r"\d+\.\d+", run_qrft("--version").output)


def keys_fit(values: dict[str, Any], rule: dict[str, Any], schema: dict[str, Any]) -> None:
    rule = schema["$defs"][rule["$ref"].rpartition("/")[2]] if "$ref" in rule else rule
    if "properties" not in rule:  # keys of one's own
        for value in values.values():
            keys_fit(value, rule["additionalProperties"], schema)
        return
    assert set(rule.get("required", [])) <= set(values) <= set(rule["properties"])
    for key, value in values.items():
        if isinstance(value, dict):
            keys_fit(value, rule["properties"][key], schema)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_schema_knows_the_keys_of_the_recipes_that_are_shipped(path: Path) -> None:
    options = ["--pretrain"] if path.name in PRETRAIN else []
    schema = json.loads(run_qrft("schema", *options).output)
    assert schema["$schema"].startswith("https://json-schema.org/")
    keys_fit(yaml.safe_load(path.read_text()), schema, schema)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_recipes_that_are_shipped_are_right(path: Path) -> None:
    if path.name in PRETRAIN:
        load(path, [], PretrainRecipe)
    else:
        files = ["problems.train=train.jsonl", "problems.test=test.jsonl"] if "gsm8k" in path.name else []
        assert isinstance(load(path, files), Recipe)


def test_a_plan_writes_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    shown = run_qrft("plan", "r.yaml", "-o", "new/runs")
    assert "sft/train" in shown.output and "19 steps, 19 to do." in shown.output
    assert sorted(folder.rglob("*")) == before


def test_stopping_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("qrft.cli.actions.run", stop)
    done = CliRunner().invoke(main, ["run", "r.yaml"])
    stopped = "\nStopped. Finished work is kept: run the same command again to continue.\n"
    assert (done.exit_code, done.stderr) == (130, stopped)


@pytest.mark.parametrize("words", [["grade", "-o", "g.parquet"], ["curate", "-o", "t.jsonl"], ["evaluate"]])
def test_stopping_what_writes_all_or_nothing(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"qrft.commands.{words[0]}.run", stop)
    done = CliRunner().invoke(main, [*words, "s.jsonl", "--problems", "p.jsonl"])
    assert (done.exit_code, done.stderr) == (130, "\nStopped. Nothing was written.\n")


# ---------------------------------------------------------------------------------------------------- faults of use: 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rnu"], "No such command 'rnu'. Did you mean 'run'?"),
        (["run"], "Missing argument 'RECIPE'."),
        (["run", "r.yaml", "--sett", "seed=1"], "No such option '--sett'. Did you mean '--set'?"),
        (["run", "r.yaml", "-o", "r.yaml"], "Directory 'r.yaml' is a file."),
        (["pretrain", "r.yaml"], "Missing option '--output' / '--out' / '-o'."),
    ],
)
def test_the_command_itself(words: list[str], expected: str) -> None:
    assert expected in fails_at_once(2, *words)


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "sample.num_sample=1",
            "--set: sample.num_sample: unknown key. Did you mean num_samples? "
            f"Allowed: {', '.join(Sample.model_fields)}",
        ),
        ("sample.num_samples", "--set: found 'sample.num_samples'. Allowed: key=value, such as seed=1"),
        (
            "prompt=[",
            "--set: prompt: not YAML: while parsing a flow node, expected the node content, but found "
            "'<stream end>': '['",
        ),
        ("seed=x", "--set: seed: found the text 'x'. Allowed: a whole number >= 0 and <= 4294967295"),
        (
            "problems.train=trian.jsonl",
            "--set: problems.train: found the text 'trian.jsonl': no such file; looked at {here}/trian.jsonl. "
            f"Did you mean train.jsonl? {PROBLEMS}",
        ),
        ("problems.train=.", f"--set: problems.train: {{here}} is a folder. {PROBLEMS}"),
        (
            "base_model=./modle",
            f"--set: base_model: found the text './modle': no such folder; looked at {{here}}/modle. {MODELS}",
        ),
        ("base_model=r.yaml", f"--set: base_model: {{here}}/r.yaml is a file. {MODELS}"),
        (
            "train.target_modules=[embed_tokens]",
            "--set: train.target_modules: found ['embed_tokens']. Allowed: all-linear, or a list of q_proj, k_proj, "
            "v_proj, o_proj, gate_proj, up_proj, down_proj, qkv_proj, gate_up_proj, at least one",
        ),
        ("name=store", "r.yaml: name: found 'store', which is the folder of the artifacts. Choose another name."),
    ],
)
def test_overrides(folder: Path, command: str, override: str, expected: str) -> None:
    assert fails_at_once(2, command, "r.yaml", "--set", override) == expected.replace("{here}", str(folder))


def test_an_unknown_key_has_its_line_and_a_guess(folder: Path) -> None:
    (folder / "r.yaml").write_text(RECIPE + "sample:\n  num_sample: 10\npromt: plain\n")
    first, second = fails_at_once(2, "run", "r.yaml").splitlines()
    allowed = [", ".join(kind.model_fields) for kind in (Sample, Recipe)]
    assert first == f"r.yaml:5: sample.num_sample: unknown key. Did you mean num_samples? Allowed: {allowed[0]}"
    assert second == f"r.yaml:6: promt: unknown key. Did you mean prompt? Allowed: {allowed[1]}"


def test_a_recipe_that_is_not_there(folder: Path) -> None:
    text = f"rr.yaml: no such recipe; looked at {folder}/rr.yaml. Did you mean r.yaml? Recipes: r.yaml"
    assert fails_at_once(2, "run", "rr.yaml") == text


def test_a_recipe_of_the_other_command() -> None:
    for command, recipe, other in (("run", "tiny-base", "pretrain"), ("pretrain", "tiny", "run")):
        words = (command, RECIPES / f"{recipe}.yaml", *(("-o", "out") if command == "pretrain" else ()))
        said = f"{RECIPES / recipe}.yaml: its keys are those of a recipe for `qrft {other}`. Give it to that command"
        assert fails_at_once(2, *words) == said


@pytest.mark.parametrize("name", ["a/b", "", "-x", "a: b"])
def test_a_name_that_is_no_folders(name: str) -> None:
    message = fails_at_once(2, "run", "r.yaml", f"--name={name}")
    form = "text of the form ^[A-Za-z0-9_][A-Za-z0-9._-]*$, at most 100 characters"
    assert message == f"--set: name: found the text {name!r}. Allowed: {form}"


def test_a_name_is_text_whatever_yaml_makes_of_it(folder: Path) -> None:
    with disk.lock(folder / "runs" / "2024"):
        assert fails(1, "run", "r.yaml", "--name", "2024").startswith("run folder runs/2024 is in use")


# ------------------------------------------------------------------------------------- base models: 1, before any work


def rewrite(file: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(model: Path) -> None:
        (model / file).write_bytes(change((model / file).read_bytes()))

    return damage


def remove(file: str) -> Callable[[Path], None]:
    return lambda model: (model / file).unlink()


AGAIN = "Copy or download the file again."
ONLY = (
    "Expected those of a causal language model that transformers knows, such as LlamaForCausalLM. Choose such a model."
)


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            remove("config.json"),
            "model/config.json: not found. Expected a Hugging Face folder that holds config.json; check the path.",
        ),
        (
            rewrite("config.json", lambda data: data[:100]),
            "model/config.json: is not JSON (Expecting value: line 6 column 23 (char 100)). Copy or download the "
            "folder again.",
        ),
        (
            rewrite("config.json", lambda data: b"[]"),
            "model/config.json: holds a list, expected an object. Download the folder again.",
        ),
        (
            rewrite("config.json", lambda data: b'{"architectures": {"a": 1}}'),
            f"model/config.json: the architecture is none, the model_type None. {ONLY}",
        ),
        (
            rewrite("config.json", lambda data: b"{}"),
            f"model/config.json: the architecture is none, the model_type None. {ONLY}",
        ),
        (
            rewrite("config.json", lambda data: data.replace(b"LlamaForCausalLM", b"GPT2LMHeadModel")),
            f"model/config.json: the architecture is GPT2LMHeadModel, the model_type llama. {ONLY}",
        ),
        (
            remove("tokenizer.json"),
            "model: has no tokenizer (tokenizer.json, tokenizer.model, vocab.json). Copy the model's tokenizer there.",
        ),
        (
            rewrite("model.safetensors", lambda data: data[:-1000]),
            f"model/model.safetensors: cut short: found 1938680 bytes, expected 1939680. {AGAIN}",
        ),
        (
            rewrite("model.safetensors", lambda data: data[:5]),
            f"model/model.safetensors: found 5 bytes, too few for its header. {AGAIN}",
        ),
        (
            rewrite("model.safetensors", lambda data: data[100:]),
            f"model/model.safetensors: found 1939580 bytes, too few for its header. {AGAIN}",
        ),
    ],
)
def test_a_damaged_base_model(model: Path, command: str, damage: Callable[[Path], None], expected: str) -> None:
    damage(model)
    message = fails_at_once(1, command, "r.yaml", "--set", "base_model=./model")
    assert message == expected


def test_a_model_without_weights_can_be_planned_and_not_run(model: Path) -> None:
    (model / "model.safetensors").unlink()
    of = ("r.yaml", "--set", "base_model=./model")
    assert "19 to do" in run_qrft("plan", *of).output
    message = fails_at_once(1, "run", *of)
    assert "/model.safetensors: not found. Expected the weights as safetensors; " in message


def test_a_file_of_the_model_that_can_not_be_read(model: Path) -> None:
    (model / "tokenizer_config.json").unlink()
    (model / "tokenizer_config.json").symlink_to("gone")  # as in a hub's cache that was tidied by hand
    message = fails_at_once(1, "plan", "r.yaml", "--set", "base_model=model")
    assert message.startswith("model/tokenizer_config.json: can't be read (No such file or directory). Repair it, or ")


def test_a_model_that_is_neither_here_nor_on_the_hub(folder: Path) -> None:
    # In a process of its own: the hub's library reads the variable when it is imported.
    command = command_line("run", "r.yaml", "--set", "base_model=org/model")
    done = run_process(command, 1, HF_HUB_OFFLINE="1", HF_HOME=str(folder / "cache"))
    assert len(done.stderr.splitlines()) == 1
    named = f"base_model: 'org/model' is neither a local folder nor a GGUF file ({folder}/org/model)"
    assert f"{named}, and could not be downloaded from the hub (" in done.stderr
    assert "Name a folder with the model, or a hub name that you may read." in done.stderr
    assert not (folder / "runs").exists()


# -------------------------------------------------------------------------------- files of problems: 1, before training

OBJECT = 'Write one object per line: {"question": ..., "answer": ...}.'
CORRECT = "Correct or remove the line."
NO_PROBLEM = 'test.jsonl: found no problems. Expected a problem per line: {"question": ..., "answer": ...}.'


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            PROBLEM + '{"question": "x"\n',
            "test.jsonl:2: not JSON in UTF-8 (Expecting ',' delimiter: line 1 column 17 (char 16)); "
            f'found \'{{"question": "x"\'. {OBJECT}',
        ),
        (
            "\n" + PROBLEM + "hello\n",
            f"test.jsonl:3: not JSON in UTF-8 (Expecting value: line 1 column 1 (char 0)); found 'hello'. {OBJECT}",
        ),
        (
            PROBLEM.encode() + b'{"question": "\xff"}\n',
            "test.jsonl:2: not JSON in UTF-8 ('utf-8' codec can't decode byte 0xff in position 14: "
            "invalid start byte); "
            f'found \'{{"question": "\ufffd"}}\'. {OBJECT}',
        ),
        (
            '{"question": "\\ud83d", "answer": "1"}\n',
            f"test.jsonl:1: question holds half a character (\\ud800 to \\udfff). {CORRECT}",
        ),
        (
            '{"question": "x", "answer": "1", "id": "\\udc00"}\n',
            f"test.jsonl:1: problem_id holds half a character (\\ud800 to \\udfff). {CORRECT}",
        ),
        (
            "[" * 100_000,
            f"test.jsonl:1: not JSON in UTF-8 (maximum recursion depth exceeded); found '{'[' * 60}'. {OBJECT}",
        ),
        (
            "PAR1\0\1\2",
            "test.jsonl:1: not JSON in UTF-8 (Expecting value: line 1 column 1 (char 0)); "
            f"found 'PAR1\\x00\\x01\\x02'. {OBJECT}",
        ),
        ("[1, 2]\n", f"test.jsonl:1: found a list, expected an object with question and answer. {OBJECT}"),
        (
            '{"question": "x"}\n',
            f'test.jsonl:1: found the keys question, expected a text under "answer". {CORRECT} {WITHOUT_ANSWERS}',
        ),
        (
            '{"question": "x", "answer": ""}\n',
            f"test.jsonl:1: found answer is '', expected a text under \"answer\". {CORRECT} {WITHOUT_ANSWERS}",
        ),
        (
            '{"question": " ", "answer": 1}\n',
            f"test.jsonl:1: found question is ' ', expected a text under \"question\". {CORRECT}",
        ),
        (
            '{"question": "x", "answer": [5]}\n',
            f'test.jsonl:1: found answer is [5], expected a text under "answer". {CORRECT}',
        ),
        (
            '{"question": "x", "answer": "5 ####"}\n',
            f"test.jsonl:1: found nothing after ####, expected the answer. {CORRECT}",
        ),
        (
            '{"id": 7, "question": "x", "answer": 1}\n\n{"id": 7, "question": "y", "answer": 1}\n',
            "test.jsonl:3: problem_id '7' is already on line 1. Each problem needs an id of its own; "
            "without any, the row number serves.",
        ),
        ("", NO_PROBLEM),
        (" \n\n", NO_PROBLEM),
    ],
)
def test_files_of_problems_are_read_before_anything_is_trained(folder: Path, rows: str | bytes, expected: str) -> None:
    (folder / "test.jsonl").write_bytes(rows if isinstance(rows, bytes) else rows.encode())
    message = fails(1, "run", "r.yaml", has_begun=True)
    where = " while decoding a JSON array from a unicode string"  # in some versions of Python
    assert message.replace(where, "") == f"{folder}/{expected}"
    assert artifacts() == ["problems"]  # of train.jsonl, which is right
    assert half_written() == []


def test_rows_as_people_write_them(folder: Path) -> None:
    rows = ['{"question": "x", "answer": 5, "id": null}', '{"question": "y", "answer": "so\\n#### 1,000", "id": "a"}']
    (folder / "train.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(rows).encode())
    (folder / "test.jsonl").write_text("")  # ends the run here
    fails(1, "run", "r.yaml", has_begun=True)
    (table,) = (folder / "runs" / "store").glob("problems-*/problems.parquet")
    assert pq.read_table(table).to_pylist() == [
        {"problem_id": "0", "question": "x", "solution": "", "answer": "5"},
        {"problem_id": "a", "question": "y", "solution": "so\n#### 1,000", "answer": "1,000"},
    ]


def test_problems_without_a_worked_solution_are_refused_before_anything_is_trained(folder: Path) -> None:
    (folder / "train.jsonl").write_text('{"question": "x", "answer": 5}\n{"question": "y", "answer": "#### 1"}\n')
    told = (
        "problems.train: train.jsonl: none of 2 problems has a worked solution, which SFT learns from; found bare "
        "answers, such as '5' of problem_id '0'. Give worked solutions: "
    )
    start = "--set", "start=sft"
    assert fails_at_once(1, "plan", "r.yaml", *start).startswith(told)
    message = fails(1, "run", "r.yaml", *start, has_begun=True)
    assert message.startswith(told) and message.endswith("`qrft run` samples the base model itself.")
    assert artifacts() == ["problems", "problems"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any file")
def test_a_file_of_problems_that_may_not_be_read(folder: Path) -> None:
    (folder / "test.jsonl").chmod(0)
    assert "/test.jsonl: can't be read (Permission denied)." in fails_at_once(1, "plan", "r.yaml")


# ------------------------------------------------------------------------------------------------- disks and folders: 1


@pytest.fixture
def mount(folder: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system in memory, where this user may."""
    disk = folder / "disk"

    def mounted(options: str) -> Path:
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("mounting a tmpfs is not permitted here")
        return disk

    yield mounted
    if disk.is_mount():
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # an error that was caught holds a lock there


def test_a_full_disk(folder: Path, mount: Callable[[str], Path]) -> None:
    disk = mount("size=64k")
    changes = ["--set", "problems.train=tiny-math/train", "--set", "problems.num_train=2000"]
    message = fails(1, "run", "r.yaml", "-o", disk, *changes, has_begun=True)
    assert re.fullmatch(
        rf"{disk}/store.*: the disk is full; 0\.\d MiB free at {disk}.*\. Make room, then run .*", message
    )
    assert artifacts(disk) == half_written(disk) == []


def test_a_disk_that_is_full_when_the_model_is_written(mount: Callable[[str], Path]) -> None:
    disk = mount("size=1200k")
    assert ": the disk is full; " in fails(1, "run", "r.yaml", "-o", disk, "--set", "gguf.quant=f32", has_begun=True)
    assert artifacts(disk) == ["curate", "problems"] and half_written(disk) == []


def test_a_file_over_the_limit(folder: Path) -> None:
    changes = ["--set", "problems.train=tiny-math/train", "--set", "problems.num_train=2000"]
    done = run_process(["sh", "-c", 'ulimit -f 8; exec "$@"', "sh", *command_line("run", "r.yaml", *changes)], 1)
    assert len(done.stderr.splitlines()) == 1
    assert "runs/store" in done.stderr and "a file grew over the limit (ulimit -f)" in done.stderr
    assert artifacts() == half_written() == []


def test_a_busy_run_folder(folder: Path) -> None:
    with disk.lock(folder / "runs" / "mine"):
        message = fails_at_once(1, "run", "r.yaml")
    assert message.startswith(f"run folder runs/mine is in use by process {os.getpid()} (since ")
    assert message.endswith("; wait for it or choose another --name")


def test_a_folder_that_may_not_be_written(folder: Path, mount: Callable[[str], Path]) -> None:
    if os.geteuid() == 0:
        closed = mount("ro")  # root may write where the permissions say no
    else:
        closed = folder / "closed"
        closed.mkdir(mode=0o555)
    message = fails_at_once(1, "run", "r.yaml", "-o", closed / "runs")
    assert message.startswith(f"{closed}/runs") and message.endswith(
        "Make it writable for this user, or work elsewhere"
    )


@pytest.mark.parametrize("words", [("run", "r.yaml", "-o"), ("pretrain", RECIPES / "tiny-base.yaml", "--out")])
def test_a_folder_inside_a_file(words: tuple[str | Path, ...]) -> None:
    message = fails_at_once(1, *words, "r.yaml/runs")
    assert message.startswith("r.yaml/runs") and "Not a directory. Work in another folder" in message


def test_a_pretrained_model_is_not_overwritten(model: Path) -> None:
    message = fails_at_once(1, "pretrain", RECIPES / "tiny-base.yaml", "--out", "model")
    assert message == "model: already exists. Choose a new folder with --out."


def test_a_file_in_the_way_of_a_link_is_left_alone(folder: Path) -> None:
    (folder / "runs" / "mine" / "problems" / "train").mkdir(parents=True)
    message = fails(1, "run", "r.yaml", has_begun=True)
    assert message == "runs/mine/problems/train: is not a link, so qrft did not make it. Move it away and run again"


# --------------------------------------------------------------------------------------------------------- all errors


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    drawn = [
        (len(branch) // 4, name) for branch, name in re.findall(r"^([│├└─ ]*)(\w+Error) ", errors.__doc__, re.MULTILINE)
    ]

    def walk(kind: type[errors.QrftError], depth: int) -> Iterator[tuple[int, str]]:
        yield depth, kind.__name__
        for inner in kind.__subclasses__():
            if inner.__module__ == errors.__name__:
                yield from walk(inner, depth + 1)

    assert drawn == list(walk(errors.QrftError, 0))


def test_every_error_has_its_exit_code_and_is_raised_somewhere() -> None:
    source = "".join(path.read_text() for path in (ROOT / "qrft").rglob("*.py"))
    for name, kind in vars(errors).items():
        if isinstance(kind, type):
            assert kind.exit_code == (2 if issubclass(kind, errors.UsageError) else 1)
            assert name in ("QrftError", "UsageError") or f"{name}(\n" in source or f"{name}(f" in source
