"""qrft sample and qrft.sample: the folder of shards, resuming, budgets, examples in the prompt, bad input."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.commands import command_line, facts_of, fails, python, run_process, run_qrft, start_process
from helpers.jsonl import read_jsonl, write_jsonl
from helpers.models import make_adapter
from helpers.paths import TINY

import qrft
from qrft import grading
from qrft.cli import main
from qrft.commands.sample import prepare
from qrft.config.load import load
from qrft.data import disk, schema
from qrft.data.problems.registry import draw
from qrft.errors import DataError, UsageError
from qrft.models import prompts
from qrft.models.find import BUILTIN
from qrft.models.gguf.adapter import export_adapter
from qrft.models.gguf.base import export_base
from qrft.models.wording import PLAIN, Wording
from qrft.pipeline.flow import plan
from qrft.pipeline.stages import Job, sample
from qrft.sampling.backends.openai.sampler import ServerSampler
from qrft.sampling.budget import Until
from qrft.sampling.requests import choose_examples, make_requests

Rows = dict[tuple[str, int], dict[str, Any]]
SAMPLE = ("sample", "tiny-base", "--problems", "p.jsonl", "--max-new-tokens", "64", "--threads", "1")
HOT = ("--temperature", "1.8")  # about half of the tiny base's answers are right
RULES = ("--answer-format", "last-number", "--equations", "anywhere")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The base is converted once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with six problems, and nothing else."""
    monkeypatch.chdir(tmp_path)
    write_jsonl("p.jsonl", problems(6))
    return tmp_path


def problems(count: int) -> list[dict[str, str]]:
    rows = draw("tiny-math/train", 0, count).to_pylist()
    return [{"id": f"t{i}", "question": row["question"], "answer": row["solution"]} for i, row in enumerate(rows)]


def table(folder: str = "samples") -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(Path(folder).glob("*.parquet"))])


def rows(folder: str = "samples") -> Rows:
    found = table(folder).to_pylist()
    samples = {(row["problem_id"], row["sample_index"]): row for row in found}
    assert len(samples) == len(found), "a sample is there twice"
    return samples


def contents(folder: str = "samples") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).glob("*.parquet")}


# ----------------------------------------------------------------------------------------------------------- shards


def test_samples_lie_in_shards_in_the_order_of_the_problems() -> None:
    facts = facts_of(*SAMPLE, "-k", "5", "--samples-per-shard", "12")
    samples = table()
    assert samples.schema == schema.SAMPLES
    assert [tuple(row.values()) for row in samples.select(["problem_id", "sample_index"]).to_pylist()] == [
        (f"t{i}", j) for i in range(6) for j in range(5)
    ]
    assert [pq.read_table(path).num_rows for path in sorted(Path("samples").glob("*.parquet"))] == [10, 10, 10]
    assert facts["num_samples"] == facts["num_new"] == 30
    assert facts["num_tokens"] == sum(samples["num_tokens"].to_pylist())
    assert sum(facts["finish_reasons"].values()) == pytest.approx(1)
    assert 0 < facts["pick_share"] < facts["decode_share"] < 1 and facts["tokens_per_second"] > 0
    assert set(samples["model"].to_pylist()) == {"tiny-base"}


def test_the_same_command_again_does_nothing_and_a_lost_shard_is_made_again() -> None:
    words = (*SAMPLE, "-k", "4", "--samples-per-shard", "8")
    facts_of(*words)
    before = {path: path.stat().st_mtime_ns for path in Path("samples").iterdir() if path.suffix}
    done = run_qrft(*words)
    assert "24 samples" in done.stdout and "all of them already existed: nothing to do." in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in Path("samples").iterdir() if path.suffix}
    whole = contents()
    Path("samples/shard-000001.parquet").unlink()
    Path("samples/.shard-000001.parquet.0123abcd.tmp").write_bytes(b"half")
    assert facts_of(*words)["num_new"] == 8
    assert contents() == whole and not list(Path("samples").glob(".*.tmp"))


def test_k_can_be_raised_and_keeps_the_samples() -> None:
    facts_of(*SAMPLE, "-k", "3", *HOT)
    before = contents()
    assert facts_of(*SAMPLE, "-k", "5", *HOT)["num_new"] == 12
    assert before.items() <= contents().items()
    found = rows()
    assert set(found) == {(f"t{i}", j) for i in range(6) for j in range(5)}
    facts_of(*SAMPLE, "-k", "5", *HOT, "-o", "at-once")
    at_once = rows("at-once")
    equal = [found[key]["completion"] == at_once[key]["completion"] for key in found]
    assert sum(equal) >= 27  # where the last bits of the logits depend on what else is in the batch, a pick may differ
    assert "only be raised: give -k 5 or more" in fails(2, *SAMPLE, "-k", "4", *HOT)


# ------------------------------------------------------------------------------------------------------------ parts

PARTS = (*SAMPLE, "-k", "4", *HOT, "--samples-per-shard", "8")  # three shards


def test_parts_that_are_merged_are_the_whole() -> None:
    facts_of(*PARTS)
    for number in (1, 2):
        facts_of(*PARTS, "--shard", f"{number}/2", "-o", f"part-{number}")
    assert [len(contents(f"part-{number}")) for number in (1, 2)] == [2, 1]
    done = run_qrft("merge", "part-1", "part-2", "-o", "merged")
    assert "24 samples in 3 shards, from 2 folders: merged" in done.stdout
    assert contents("merged") == contents()
    assert Path("merged/settings.json").read_text() == Path("samples/settings.json").read_text()
    assert facts_of(*PARTS, "-o", "merged")["num_new"] == 0, "the same command finds nothing to do"


def test_what_is_no_whole_is_not_merged() -> None:
    for number in (1, 2):
        facts_of(*PARTS, "--shard", f"{number}/3", "-o", f"part-{number}")
    facts_of(*PARTS, "--seed", "1", "--shard", "3/3", "-o", "other")
    merge = ("merge", "part-1", "part-2", "-o", "merged")
    assert "1 of 3 shards are in no folder: 3. Name the folders of all parts" in fails(2, *merge)
    message = fails(2, *merge[:-2], "other", *merge[-2:])
    assert message.startswith("other: was made with other settings than part-1: seed was 0 and is now 1.")
    facts_of(*PARTS, "--shard", "3/3", "-o", "part-3")
    damaged = Path("part-3/shard-000002.parquet")
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-9])
    assert f"{damaged}: can't be read" in fails(1, *merge[:-2], "part-3", *merge[-2:])
    Path("part-1/shard-000002.parquet").write_bytes(whole)
    assert "differ, though both are the same shard" in fails(2, *merge[:-2], "part-3", *merge[-2:])
    assert not Path("merged").exists()
    assert "already exists" in fails(2, *merge[:-1], "other")
    assert "holds Parquet files, but no settings.json" in fails(2, "merge", ".", *merge[-2:])


def test_a_folder_of_other_settings_is_left_alone() -> None:
    facts_of(*SAMPLE, "-k", "2")
    before = contents()
    message = fails(2, *SAMPLE, "-k", "2", "--temperature", "0.5", "--stop", "x")
    assert (
        'temperature was 0.7 and is now 0.5; stop was [] and is now ["x"]. Give the former settings, or name another'
        in message
    )
    write_jsonl("p.jsonl", problems(7))
    assert "problems was" in fails(2, *SAMPLE, "-k", "2")
    Path("mine").mkdir()
    pq.write_table(table(), "mine/x.parquet")
    assert "holds Parquet files, but no settings.json" in fails(2, *SAMPLE, "-k", "2", "-o", "mine")
    with disk.lock(Path("samples")):
        assert "samples is being written by process" in fails(1, *SAMPLE, "-k", "2")
    assert contents() == before


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_shard_is_named(damage: str) -> None:
    facts_of(*SAMPLE, "-k", "2", "--samples-per-shard", "4")
    path = Path("samples/shard-000001.parquet")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        path.write_bytes(Path("samples/shard-000000.parquet").read_bytes())
    message = fails(1, *SAMPLE, "-k", "2", "--samples-per-shard", "4")
    assert message.startswith("samples/shard-000001.parquet: ") and "sampled again" in message


def test_other_commands_take_the_folder() -> None:
    facts_of(*SAMPLE, "-k", "4", "--samples-per-shard", "8")
    grade = ("grade", "--problems", "p.jsonl", *RULES, "-o", "g.parquet")
    whole = facts_of(*grade, "samples")
    assert whole["num_samples"] == 24 and whole["num_correct"] > 0
    assert whole == facts_of(*grade, *map(str, sorted(Path("samples").glob("*.parquet"))))
    Path("empty").mkdir()
    assert "has no Parquet file in it" in fails(1, *grade, "empty")


# ------------------------------------------------------------------------------------------------------------ kills


def worker(parent: int) -> int | None:
    """The process id of a process's llama.cpp."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if (
                int(fields[1]) == parent
                and b"qrft.sampling.backends.llama_cpp.worker" in (path.parent / "cmdline").read_bytes()
            ):
                return int(path.parent.name)
    return None


LONG = (*SAMPLE, *HOT, "-k", "32", "--samples-per-shard", "16")  # 12 shards, of half a problem each


def undisturbed() -> dict[str, bytes]:
    facts_of(*LONG, "-o", "whole")
    return contents("whole")


def kill(victim: str, num_shards: int, wait: float) -> bool:
    """Starts the command, and kills it or its child a while after so many new shards; False: it ended before."""
    before = len(contents())
    process = start_process(command_line(*LONG))
    while process.poll() is None and len(contents()) < before + num_shards:
        time.sleep(0.005)
    time.sleep(wait)
    is_running = process.poll() is None
    target = process.pid if victim == "parent" else worker(process.pid)
    if is_running and target:
        os.kill(target, signal.SIGKILL)
    process.wait()
    return is_running


def test_killed_the_same_command_goes_on_to_the_same_samples() -> None:
    whole = undisturbed()
    assert len(whole) == 12
    assert kill("parent", 3, 0.05)
    assert 3 <= len(contents()) < 12 and contents().items() <= whole.items()
    killer = threading.Thread(target=kill_own_worker, args=(len(contents()) + 2,))
    killer.start()
    message = fails(1, *LONG)
    killer.join()
    assert "the sampling process was ended by SIGKILL" in message and "finished samples are kept" in message
    assert 5 <= len(contents()) < 12
    facts_of(*LONG)
    assert contents() == whole


def kill_own_worker(num_shards: int) -> None:
    while len(contents()) < num_shards:
        time.sleep(0.005)
    child = worker(os.getpid())
    assert child
    os.kill(child, signal.SIGKILL)


@pytest.mark.slow
def test_killed_thirty_times_at_random_it_ends_in_the_same_samples() -> None:
    whole = undisturbed()
    generator, kills = random.Random(0), 0
    while kills < 30:
        if len(contents()) > 8:  # start over, so that there is always something left to be killed in
            for path in list(Path("samples").glob("*.parquet"))[:: generator.choice([1, 2])]:
                path.unlink()
        kills += kill(generator.choice(["parent", "child"]), generator.randrange(3), generator.random() * 0.3)
        assert contents().items() <= whole.items()
    facts_of(*LONG)
    assert contents() == whole


# ----------------------------------------------------------------------------------------------------------- budget


def needed(samples: Rows, problem: dict[str, str], kind: str, count: int, k: int) -> int:
    """How many samples a problem must get, by the slow definition: doubling until they hold enough."""
    gold = grading.grader.equation_keys([problem["answer"]], rules=grading.Rules(equations="anywhere"))[0].tobytes()
    goal = 4
    while goal < k:
        texts = [samples[problem["id"], i]["completion"] for i in range(goal)]
        answer = problem["answer"].rpartition("####")[2].strip()
        rules = grading.Rules(answer_format="last-number", equations="anywhere")
        right = [row for row in grading.grade(texts, [answer] * goal, rules=rules).to_pylist() if row["is_correct"]]
        paths = {row["equation_key"] for row in right if row["equations_status"] == "ok"} - {gold}
        if (len(right) if kind == "correct" else len(paths)) >= count:
            return goal
        goal *= 2
    return k


@pytest.mark.parametrize("kind", ["correct", "distinct"])
def test_tokens_go_to_problems_that_lack_paths(kind: str) -> None:
    count = {"correct": 4, "distinct": 1}[kind]
    facts = facts_of(*SAMPLE, *HOT, *RULES, "-k", "16", "--until", f"{kind}={count}")
    samples = rows()
    expected = {row["id"]: needed(samples, row, kind, count, 16) for row in problems(6)}
    assert set(samples) == {(name, i) for name, number in expected.items() for i in range(number)}
    assert len(set(expected.values())) > 1, "the test shows nothing where all problems need equally many"
    budget = read_jsonl("samples/budget.jsonl")
    assert {row["problem_id"]: row["num_samples"] for row in budget} == expected
    assert sum(facts["told_apart_by"].values()) > 0
    assert facts["num_satisfied"] == sum(row["is_satisfied"] for row in budget)
    assert all((row[f"num_{kind}"] >= count) == row["is_satisfied"] for row in budget)
    assert sum(done["num_samples"] for done in facts["rounds"]) == len(samples)
    assert sum(done["num_tokens"] for done in facts["rounds"]) == facts["num_tokens"]
    assert facts_of(*SAMPLE, *HOT, *RULES, "-k", "16", "--until", f"{kind}={count}")["num_new"] == 0


def test_with_a_budget_k_can_be_raised_too() -> None:
    words = (*SAMPLE, *HOT, *RULES, "--until", "correct=5", "--samples-per-shard", "10")
    facts_of(*words, "-k", "6")
    assert facts_of(*words, "-k", "16")["num_new"] > 0
    facts_of(*words, "-k", "16", "-o", "at-once")
    found, at_once = rows(), rows("at-once")
    equal = [found[key]["completion"] == at_once[key]["completion"] for key in found.keys() & at_once.keys()]
    assert sum(equal) >= 0.9 * len(equal)
    if all(equal):
        assert found.keys() == at_once.keys()


def test_a_recipe_can_give_a_budget(tmp_path: Path) -> None:
    export_base(BUILTIN["tiny-base"], tmp_path / "base.gguf")
    pq.write_table(draw("tiny-math/train", 0, 6), tmp_path / "problems.parquet")
    (tmp_path / "partial").mkdir()
    changes = ["sample.until={correct: 4, max_samples: 16}", "sample.temperature=1.8", "sample.max_new_tokens=64"]
    recipe = load(TINY, [*changes, "grade.answer_format=last-number"])
    settings: dict[str, Any] = {step.path: step.settings for step in plan(recipe, BUILTIN["tiny-base"])}
    inputs = {"model": BUILTIN["tiny-base"], "base": tmp_path, "problems": tmp_path}
    facts = sample.run(inputs, tmp_path, settings["round-1/samples"], Job(num_threads=1))
    samples = pq.read_table("samples.parquet")
    budget = read_jsonl("budget.jsonl")
    expected = [(row["problem_id"], i) for row in budget for i in range(row["num_samples"])]
    assert [tuple(row.values()) for row in samples.select(["problem_id", "sample_index"]).to_pylist()] == expected
    assert len(facts["rounds"]) > 1 and len({row["num_samples"] for row in budget}) > 1
    (tmp_path / "greedy" / "partial").mkdir(parents=True)
    answers = sample.run(inputs, tmp_path / "greedy", settings["base/test-samples"], Job(num_threads=1))
    assert "rounds" not in answers, "greedy answers have no budget"


# ---------------------------------------------------------------------------------------------------------- prompts


def test_whether_the_model_is_compared_with_transformers_is_a_choice(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def kept() -> list[int]:
        """When results of comparisons were written."""
        return [path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*-parity-*.json")]

    assert facts_of(*SAMPLE, "-k", "1", "-o", "a", "--parity", "off")["parity"] == "off"
    assert facts_of(*SAMPLE, "-k", "1", "-o", "n", "--no-parity")["parity"] == "off" and kept() == []
    assert "llama.cpp was not compared with transformers (parity off)" in caplog.text
    caplog.clear()
    assert facts_of(*SAMPLE, "-k", "1", "-o", "b")["parity"] == "once"
    first = kept()
    facts_of(*SAMPLE, "-k", "1", "-o", "c", "--parity", "once")
    assert len(first) == 1 and kept() == first
    assert facts_of(*SAMPLE, "-k", "1", "-o", "a", "-k", "2", "--parity", "always")["num_new"] > 0
    assert len(kept()) == 1 and kept() > first and caplog.text == ""
    with pytest.raises(UsageError, match=r"--parity: found false. Allowed: off, once, always"):
        list(qrft.sample("tiny-base", ["What is 1+1?"], parity=False))


def test_a_stop_text_ends_a_completion_where_it_begins() -> None:
    facts_of(*SAMPLE, "-k", "3")
    facts = facts_of(*SAMPLE, "-k", "3", "--stop", ", then", "--stop", "zebra", "-o", "stopped")
    whole, stopped = rows(), rows("stopped")
    cut = [row for row in stopped.values() if row["finish_reason"] == "stop_text"]
    assert cut and facts["finish_reasons"]["stop_text"] == len(cut) / len(stopped)
    for key, row in stopped.items():
        text, is_cut = whole[key]["completion"], ", then" in whole[key]["completion"]
        assert row["completion"] == text.partition(", then")[0]
        assert row["finish_reason"] == ("stop_text" if is_cut else whole[key]["finish_reason"])


def solved(*names: str) -> pa.Table:
    found = [[*names], [f"{name}?" for name in names], [f"So {name}.\n#### 1" for name in names], ["1"] * len(names)]
    return pa.table(found, schema=schema.PROBLEMS)


def test_examples_stand_before_the_question_and_are_never_it() -> None:
    table = solved("a", "b", "c", "d")
    requests = make_requests(table, None, PLAIN, choose_examples(table, 2, PLAIN, "p.jsonl"))
    a, b, c = (f"{name}?\nSo {name}.\n#### 1\n\n" for name in "abc")
    assert [request.prompt for request in requests] == [f"{b}{c}a?\n", f"{a}{c}b?\n", f"{a}{b}c?\n", f"{a}{b}d?\n"]
    alpaca = make_requests(
        table, None, Wording(prompt="alpaca"), choose_examples(table, 1, Wording(prompt="alpaca"), "p.jsonl")
    )[3].prompt
    one = "\n\n### Instruction:\n{}?\n\n### Response:"
    opening = prompts.TEMPLATES["alpaca"].partition("\n\n###")[0]
    assert alpaca == opening + one.format("a") + "So a.\n#### 1\n\n" + opening + one.format("d")


def test_examples_are_worked_and_hold_nothing_that_looks_like_the_next_one() -> None:
    table = solved("a", "b", "c", "d", "e")
    texts = ["", "So\n\nb.\n#### 1", *table["solution"].to_pylist()[2:]]
    table = table.set_column(2, schema.PROBLEMS.field("solution"), pa.array(texts, pa.large_string()))
    assert [question for question, _ in choose_examples(table, 2, PLAIN, "p.jsonl")] == ["c?", "d?", "e?"]
    with pytest.raises(DataError, match=r"p\.jsonl: found 3 problems with a worked solution, but 3 examples need 4"):
        choose_examples(table, 3, PLAIN, "p.jsonl")


def test_few_shot_stops_at_the_next_example() -> None:
    facts_of(*SAMPLE, "-k", "1", "--few-shot", "2", "--limit", "3")
    settings = json.loads(Path("samples/settings.json").read_text())["settings"]
    assert settings["few_shot"] == 2 and settings["stop"] == ["\n\n"] and settings["num_problems"] == 3
    assert not any("\n\n" in row["completion"] for row in rows().values())
    write_jsonl("e.jsonl", [{**row, "question": row["question"] + " Well?"} for row in problems(6)])
    assert "examples was" in fails(2, *SAMPLE, "-k", "1", "--few-shot", "2", "--limit", "3", "--examples", "e.jsonl")


# ------------------------------------------------------------------------------------------------------ from Python


def test_from_python_the_same_samples_as_an_iterator() -> None:
    facts_of(*SAMPLE, "-k", "3")
    found = {
        (done.problem_id, done.sample_index): done
        for done in qrft.sample("tiny-base", "p.jsonl", 3, max_new_tokens=64, threads=1)
    }
    expected = rows()
    assert {key: (done.text, done.finish_reason, done.num_tokens) for key, done in found.items()} == {
        key: (row["completion"], row["finish_reason"], row["num_tokens"]) for key, row in expected.items()
    }
    questions = [row["question"] for row in problems(2)]
    samples = qrft.sample("tiny-base", questions, 2, temperature=1.0, threads=1)
    assert next(samples).problem_id in ("0", "1")
    samples.close()  # type: ignore[attr-defined]
    assert worker(os.getpid()) is None, "an iterator that is dropped ends its process"


def test_importing_qrft_is_cheap() -> None:
    code = "import sys, qrft; print(len({'pyarrow', 'numpy', 'transformers', 'torch'} & set(sys.modules)))"
    done = run_process(python(code))
    assert done.stdout.strip() == "0"
    with pytest.raises(AttributeError, match="no attribute 'sampel'"):
        _ = qrft.sampel


# --------------------------------------------------------------------------------------------------- models


def test_an_adapter_is_taken_as_peft_saves_it_and_as_gguf() -> None:
    make_adapter(Path("lora"), BUILTIN["tiny-base"])
    export_adapter(Path("lora"), BUILTIN["tiny-base"], Path("lora.gguf"))
    export_base(BUILTIN["tiny-base"], Path("base.gguf"), "f16")
    tokenizer = ("--tokenizer", str(BUILTIN["tiny-base"]))
    facts_of(*SAMPLE, "-k", "2", "--adapter", "lora")
    facts_of("sample", "base.gguf", *SAMPLE[2:], *tokenizer, "-k", "2", "--adapter", "lora.gguf", "-o", "ready")
    facts_of(*SAMPLE, "-k", "2", "-o", "plain")
    texts = {name: table(name)["completion"].to_pylist() for name in ("samples", "ready", "plain")}
    assert texts["samples"] == texts["ready"] != texts["plain"]
    assert set(table()["model"].to_pylist()) == {"tiny-base+lora"}
    assert "adapter was null and is now lora" in fails(2, *SAMPLE, "-k", "2", "--adapter", "lora", "-o", "plain")


# --------------------------------------------------------------------------------------------------- other samplers


def test_transformers_gives_the_same_greedy_answers() -> None:
    greedy = (*SAMPLE, "-k", "1", "--temperature", "0")
    facts_of(*greedy, "--quant", "f32")
    facts_of(*greedy, "--sampler", "transformers", "-o", "torch")
    found, expected = rows("torch"), rows()
    assert {key: row["completion"] for key, row in found.items()} == {
        key: row["completion"] for key, row in expected.items()
    }


class Teacher(BaseHTTPRequestHandler):
    """Answers every prompt with its own last words."""

    prompts: ClassVar[list[str]] = []
    bodies: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.prompts.append(body["prompt"])
        self.bodies.append(body)
        choice = {"index": 0, "text": f"{body['model']} says {body['prompt'][-9:]!r}", "finish_reason": "stop"}
        answer = json.dumps({"choices": [choice], "usage": {"completion_tokens": 7}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """No lines in the tests' output."""


def test_a_server_gets_the_prompts_as_texts() -> None:
    with HTTPServer(("127.0.0.1", 0), Teacher) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        words = ("sample", "teacher", "--problems", "p.jsonl", "-k", "2", "--sampler", "openai", "--server", url)
        words = (*words, "--extra-body", '{"lora": [{"id": 0}], "top_k": null}')
        assert facts_of(*words)["num_samples"] == 12
        server.shutdown()
    assert all(body["lora"] == [{"id": 0}] and "top_k" not in body for body in Teacher.bodies)
    questions = [row["question"] + "\n" for row in problems(6)]
    assert sorted(Teacher.prompts) == sorted(questions * 2)
    for (problem, _), row in rows().items():
        assert row["completion"] == f"teacher says {questions[int(problem[1:])][-9:]!r}"
        assert (row["model"], row["num_tokens"], row["finish_reason"]) == ("teacher", 7, "stop")
    assert facts_of(*words)["num_new"] == 0, "all is there, so the server that is gone is not asked"


def test_a_server_with_a_chat_template_gets_the_system_turn() -> None:
    _, spec = prepare("m", "p.jsonl", 1, sampler="openai", server="http://x", chat=True, system="Be kind.")
    sampler = ServerSampler("http://x", "m", chat=True)
    assert spec.wording == PLAIN
    (request, *_) = make_requests(spec.problems, None, spec.wording, (), spec.server_system)
    assert sampler._body((request, 0), spec.params)["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": request.prompt},
    ]


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-k", "2", "--system", "Be kind."], "--system: found a text with prompt plain, which has neither turns nor"),
        (
            ["-k", "2", "--sampler", "openai", "--server", "http://x", "--chat", "--chat-template-args", '{"a": 1}'],
            "--chat-template-args: with --chat the server applies its own template.",
        ),
        (["-k", "2", "--shard", "3/2"], "'3/2' is not a part of several, such as 3/16."),
        (["-k", "2", "--until", "correct=1", "--shard", "1/2"], "--shard: with --until, which samples come next"),
        (["-k", "2", "--temperature", "0"], "at temperature 0: all samples of a problem would be equal"),
        (["-k", "2", "--until", "correct=3"], "--until asks for 3 paths, but -k allows at most 2 samples. Raise -k"),
        (["-k", "2", "--stop", ""], "--stop: found ['']. Allowed: a list of texts that are not empty."),
        (
            ["-k", "2", "--sampler", "openai"],
            "--sampler openai: --server is missing. Give it: The address of the server, such as http://localhost:8080/v1.",
        ),
        (["-k", "2", "--sampler", "openai", "--server", "http://x", "--adapter", "a"], "a server has its own models"),
        (
            ["-k", "9", "--until", "correct=3", "--mode", "paper", "--answer-format", "boxed"],
            "--answer-format: found 'boxed' with mode paper, which decides everything as the paper does. "
            "Allowed: gsm8k, or leave it out.",
        ),
        (["-k", "2", "--sampler", "openai", "--server", "http://x", "--extra-body", "[1]"], "'[1]' is no JSON object"),
        (["-k", "2", "--sampler", "openai", "--server", "http://x", "--extra-body", "{"], "'{' is not JSON"),
        (
            ["-k", "2", "--server", "http://x"],
            "--server: has no effect without --sampler openai. Leave it out",
        ),
        (["-k", "2", "--answer-format", "boxed"], "--answer-format: has no effect without --until"),
        (["-k", "2", "--examples", "p.jsonl"], "--examples: has no effect without --few-shot"),
        (["-k", "2", "--tokenizer", "t"], "--tokenizer: has no effect unless BASE is a .gguf"),
        (["-k", "2", "-o", "p.jsonl"], "'p.jsonl' is a file"),
    ],
)
def test_what_cannot_be_asked_for(words: list[str], message: str) -> None:
    assert message in fails(2, *SAMPLE, *words)
    assert not Path("samples").exists()


def test_a_folder_of_something_else_is_left_alone() -> None:
    Path("recipes").mkdir()
    Path("recipes/mine.yaml").write_text("name: mine\n")
    assert "recipes: already exists, and was not made by this command." in fails(2, *SAMPLE, "-k", "2", "-o", "recipes")
    assert [path.name for path in Path("recipes").iterdir() if not path.name.startswith(".")] == ["mine.yaml"]


def test_questions_alone_have_no_goal() -> None:
    with pytest.raises(UsageError, match="have no gold answers"):
        qrft.sample("tiny-base", ["How many are 3 and 4?"], 8, until=Until(correct=3))
    with pytest.raises(UsageError, match="problems: found 3 among them"):
        qrft.sample("tiny-base", [3], 8)  # type: ignore[list-item]


@pytest.mark.parametrize("value", ["4", "paths=4", "correct=0", "distinct=x"])
def test_until_is_read_strictly(value: str) -> None:
    assert "is neither distinct=N nor correct=N" in fails(2, *SAMPLE, "-k", "9", "--until", value)


def test_what_is_not_there_is_named() -> None:
    sampled = ("sample", "--problems", "p.jsonl", "-k", "2")
    Path("m.gguf").write_bytes(b"GGUF")
    assert "m.gguf: a .gguf needs its Hugging Face tokenizer" in fails(2, *sampled, "m.gguf")
    assert "--sampler transformers does not read .gguf" in fails(2, *sampled, "m.gguf", "--sampler", "transformers")
    assert fails(1, *sampled, "m.gguf", "--tokenizer", str(BUILTIN["tiny-base"])).startswith("m.gguf: ")
    assert "no-such-adapter" in fails(1, *sampled, "tiny-base", "--adapter", "no-such-adapter")
    assert "none.jsonl: is neither a file" in fails(1, "sample", "tiny-base", "--problems", "none.jsonl", "-k", "2")
    long = fails(1, *SAMPLE[:4], "-k", "2", "--max-new-tokens", "100000", "--threads", "1", "-o", "long")
    assert "the prompt of problem 't0' has" in long and "Lower max_new_tokens" in long


def test_a_command_that_made_nothing_leaves_no_settings_behind() -> None:
    fails(1, *SAMPLE, "-k", "3", "--adapter", "no-such-adapter")
    assert facts_of(*SAMPLE, "-k", "2")["num_samples"] == 12


def test_settings_that_cannot_be_read_are_named() -> None:
    facts_of(*SAMPLE, "-k", "2")
    Path("samples/settings.json").write_text("{}")
    assert fails(1, *SAMPLE, "-k", "2").startswith("samples/settings.json: can't be read")


def test_the_command_and_the_library_have_the_same_defaults() -> None:
    choice, spec = prepare("tiny-base", "p.jsonl", 2)
    by_command = main.sample.make_context("sample", ["tiny-base", "--problems", "p.jsonl", "-k", "2"]).params
    for given in (spec.params, choice, choice.settings, spec):
        for name, value in vars(given).items():
            if name in by_command and name not in ("base", "problems", "num_samples", "stop", "examples"):
                assert by_command[name] == value, name


def test_a_folder_of_someone_else_is_left_as_it_was() -> None:
    Path("notes").mkdir()
    for name in (".draft.tmp", ".shard-000001.parquet.0123abcd.tmp", "thesis.txt"):
        Path("notes", name).write_text("mine")
    before = sorted(Path("notes").iterdir())
    assert "notes: already exists, and was not made" in fails(2, *SAMPLE, "-k", "2", "-o", "notes")
    assert sorted(Path("notes").iterdir()) == before


def test_the_settings_of_another_program_are_not_replaced() -> None:
    Path("editor").mkdir()
    Path("editor/settings.json").write_text('{"theme": "dark"}')
    assert "editor/settings.json: can't be read" in fails(1, *SAMPLE, "-k", "2", "-o", "editor")
    assert [path.name for path in Path("editor").iterdir()] == ["settings.json"]
    assert Path("editor/settings.json").read_text() == '{"theme": "dark"}'
