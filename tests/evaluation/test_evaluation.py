"""Evaluation in recipes: which steps it plans, what they measure, and two runs held against each other."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.commands import facts_of, fails, run_qrft
from helpers.paths import TINY

from qrft import grading
from qrft.config.load import load
from qrft.data.problems import registry
from qrft.data.problems.registry import draw
from qrft.data.schema import CLUSTER_FIELD, EVALUATION, PROBLEMS, SAMPLES
from qrft.errors import DataError, RecipeError
from qrft.evaluation import stats
from qrft.models.find import BUILTIN
from qrft.models.gguf.base import export_base
from qrft.pipeline.flow import plan
from qrft.pipeline.stages import Job, evaluate, problems, sample

MODELS = ("base", "sft", "rft")


def steps(*changes: str) -> dict[str, Any]:
    return {step.path: step for step in plan(load(TINY, changes), BUILTIN["tiny-base"])}


# -------------------------------------------------------------------------------------------------------- the plan ----


def test_the_usual_plan_answers_the_test_problems_greedily() -> None:
    found = [name for name in steps() if "test-" in name]
    assert found == [f"{model}/test-{kind}" for model in MODELS for kind in ("samples", "graded")]


def test_samples_and_examples_are_steps_beside_the_greedy_ones() -> None:
    plain = steps()
    found = steps("evaluate.maj_at=[1,4]", "evaluate.pass_at=[1,8]", "evaluate.few_shot=[0,2]")
    assert all(found[name].digest == plain[name].digest for name in plain if name not in ("evaluation", "report"))
    new = {name for name in found if name.endswith("samples")} - set(plain)
    assert new == {f"base/test-2-shot{k}-samples" for k in ("", "-k8")} | {f"{m}/test-k8-samples" for m in MODELS}
    shown, sampled = found["base/test-2-shot-samples"], found["rft/test-k8-samples"]
    assert shown.inputs["examples"] is found["problems/train"] and shown.settings.stop == ("\n\n",)
    assert (sampled.settings.num_samples, sampled.settings.temperature) == (8, 0.7)
    assert sampled.settings.top_p == 1 and "examples" not in sampled.inputs


def test_another_k_of_votes_samples_nothing_anew() -> None:
    first, second = steps("evaluate.maj_at=[8]"), steps("evaluate.maj_at=[2,8]", "evaluate.pass_at=[4]")
    assert [name for name in second if second[name].digest != first[name].digest] == ["evaluation", "report"]


def test_further_sets_by_name_and_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(registry.FOLDER, str(tmp_path))
    row = {"ID": "s-1", "Body": "Ann has 2 pens", "Question": "How many are left if she loses 1?", "Answer": 1.0}
    for name in ("svamp/SVAMP.json", "mine.jsonl", "more/mine.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps([row] if name.endswith(".json") else {"question": name, "answer": 1}))
    sets = "evaluate.problems=[svamp/test,mine.jsonl,more/mine.jsonl,tiny-math/test]"
    found = steps(sets, "problems.num_test=7")
    places = ["test", "svamp-test", "mine", "mine-2"]
    assert [name for name in found if name.startswith("problems/")] == [
        "problems/train",
        *(f"problems/{p}" for p in places),
    ]
    labels = [entry.problems for entry in found["evaluation"].settings.entries if entry.model == "sft"]
    assert labels == ["tiny-math/test", "svamp/test", "mine.jsonl", "mine-2"]
    svamp = found["problems/svamp-test"]
    problems.run({"file": svamp.inputs["file"].path}, tmp_path, svamp.settings, Job())
    [read] = pq.read_table(tmp_path / "problems.parquet").to_pylist()
    assert read["question"] == "Ann has 2 pens. How many are left if she loses 1?" and read["answer"] == "1"


def test_sets_of_several_answer_formats_are_measured_in_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(registry.FOLDER, str(tmp_path))
    for name in ("gsm8k/test.jsonl", "math-500/test.jsonl"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(json.dumps({"question": "1+1?", "answer": "2"}))
    (tmp_path / "mine.jsonl").write_text(json.dumps({"question": "1+1?", "answer": "2"}))
    sets = f"evaluate.problems=[gsm8k/test,math-500/test,{tmp_path}/mine.jsonl]"
    expected = {"test": "gsm8k", "gsm8k-test": "gsm8k", "math-500-test": "boxed", "mine": "gsm8k"}

    def formats(*changes: str) -> dict[str, str]:
        made = steps(sets, *changes)
        entries = {entry.graded: entry.rules for entry in made["evaluation"].settings.entries}
        graded = {part: made[f"sft/{part}-graded"].settings.rules for part in expected}
        assert all(entries[f"sft/{part}-graded"] == rules for part, rules in graded.items())
        assert made["round-1/graded"].settings.rules == made["round-1/training"].settings.rules == graded["test"]
        return {part: rules.answer_format for part, rules in graded.items()}

    assert formats() == expected
    assert formats("grade.answer_format=auto") == dict.fromkeys(expected, "auto")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["evaluate.maj_at=[0]"], "evaluate.maj_at: found [0]. Allowed: a list of whole numbers >= 1"),
        (["evaluate.pass_at=[2,2]"], "evaluate.pass_at: found [2, 2]. Allowed: each number once"),
        (["evaluate.few_shot=[]"], "evaluate.few_shot: found []. Allowed: a list of whole numbers >= 0, at least one"),
        (["evaluate.temperature=0"], "evaluate.temperature: found 0. Allowed: a number > 0"),
        (["evaluate.greedy=false"], "evaluate.pass_at: found nothing to measure. Allowed: evaluate.greedy true, or"),
        (["evaluate.problems=[svamp/tset]"], "evaluate.problems: found the text 'svamp/tset': no such file"),
        (["evaluate.few_shot=[8]", "problems.num_train=8"], "evaluate: found few_shot 8 with problems.num_train 8."),
    ],
)
def test_faults_of_the_section(changes: list[str], said: str) -> None:
    with pytest.raises(RecipeError) as error:
        load(TINY, changes)
    assert said in str(error.value)


def test_a_set_without_end_needs_a_number(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("")
    test = [f"problems.test={tmp_path}/t.jsonl", "problems.num_test=null"]
    with pytest.raises(
        RecipeError, match=r"found tiny-math/test, which has no end\. Allowed: such a set, once problems\.num_test"
    ):
        load(TINY, [*test, "evaluate.problems=[tiny-math/test]"])


# ------------------------------------------------------------------------------------------ examples in the prompt ----


def shown(few_shot: int, seed: int = 0) -> sample.Settings:
    return sample.Settings(few_shot=few_shot, examples_seed=seed, prompt="plain", model="base", seed=0)


def test_the_examples_are_worked_problems_that_the_seed_chooses(tmp_path: Path) -> None:
    train = draw("tiny-math/train", 0, 12)
    pq.write_table(train, tmp_path / "problems.parquet")
    pairs = set(zip(train["question"].to_pylist(), train["solution"].to_pylist(), strict=True))

    def chosen(seed: int) -> list[tuple[str, str]]:
        return sample._examples({"examples": tmp_path}, shown(3, seed))

    assert chosen(0) == chosen(0) != chosen(1)
    assert len(chosen(0)) == 4 and set(chosen(0)) <= pairs  # one to spare
    assert sample._examples({}, shown(0)) == []


def test_too_few_examples_say_which_key_to_lower(tmp_path: Path) -> None:
    bare = [{"problem_id": "0", "question": "1+1?", "solution": "", "answer": "2"}]
    pq.write_table(pa.Table.from_pylist(bare, schema=PROBLEMS), tmp_path / "problems.parquet")
    with pytest.raises(DataError, match=r"problems/train: found 0 problems with a worked solution.*evaluate\.few_shot"):
        sample._examples({"examples": tmp_path}, shown(2))


def test_a_model_that_was_shown_examples_answers_by_them(tmp_path: Path) -> None:
    """The stage with the real model, with and without the examples."""
    base, folders = BUILTIN["tiny-base"], {name: tmp_path / name for name in ("train", "test", "gguf")}
    for split, number in (("train", 6), ("test", 3)):
        folders[split].mkdir()
        pq.write_table(draw(f"tiny-math/{split}", 0, number), folders[split] / "problems.parquet")
    folders["gguf"].mkdir()
    export_base(base, folders["gguf"] / "base.gguf", "f32", n_threads=1)
    inputs = {"model": base, "problems": folders["test"], "base": folders["gguf"]}
    found = []
    for name, more in {"base/test-samples": {}, "base/test-2-shot-samples": {"examples": folders["train"]}}.items():
        planned = steps("evaluate.few_shot=[0,2]")[name].settings
        out = tmp_path / name
        (out / "partial").mkdir(parents=True)
        sample.run({**inputs, **more}, out, planned.model_copy(update={"max_new_tokens": 4}), Job(num_threads=1))
        found.append(pq.read_table(out / "samples.parquet"))
    assert [table.num_rows for table in found] == [3, 3]
    assert all(a != b for a, b in zip(*(table["logprob"].to_pylist() for table in found), strict=True))


# ------------------------------------------------------------------------------------------------------- the stage ----

GOLD = ["10", "7", "3", "8"]
# Of each problem five samples' answers; the empty one has none. 10, 10.0 and $10 are one value.
ANSWERS = {
    "base": [["1", "2", "", "", ""], ["7", "1", "1", "", ""], ["", "", "", "", ""], ["9", "9", "8", "8", "1"]],
    "sft": [["10", "10.0", "9", "9", "9.0"], ["7", "7.00", "7", "1", "2"], ["3", "4", "5", "6", "7"], ["1"] * 5],
    "rft": [["10", "10.0", "$10", "9", "9.0"], ["7"] * 5, ["3", "3", "4", "4", ""], ["8", "1", "1", "1", "8.0"]],
}


class Made:
    """The artifacts that an evaluation reads, graded by the core."""

    def __init__(self, folder: Path, with_greedy: bool = True) -> None:
        self.folder, self.inputs = folder, {"problems/test": folder / "problems"}
        rows = [{"problem_id": str(i), "question": f"Q{i}", "solution": "", "answer": g} for i, g in enumerate(GOLD)]
        self.write("problems", "problems", pa.Table.from_pylist(rows, schema=PROBLEMS))
        entries = []
        for model, answers in ANSWERS.items():
            if with_greedy:
                entries.append(self.answered(model, f"{model}/test", [row[:1] for row in answers], is_greedy=True))
            entries.append(self.answered(model, f"{model}/test-k5", answers, is_greedy=False))
        self.settings = evaluate.Settings(entries=tuple(entries), maj_at=(1, 2, 3, 5), pass_at=(1, 3))

    def write(self, place: str, name: str, table: pa.Table) -> Path:
        (self.folder / place).mkdir(parents=True, exist_ok=True)
        pq.write_table(table, self.folder / place / f"{name}.parquet")
        return self.folder / place

    def answered(self, model: str, answers: str, given: list[list[str]], is_greedy: bool) -> evaluate.Answers:
        rows = [(str(i), sample, text) for i, texts in enumerate(given) for sample, text in enumerate(texts)]
        samples = [
            {"problem_id": i, "model": model, "sample_index": s, "completion": f"#### {text}" if text else "no idea"}
            for i, s, text in rows
        ]
        table = pa.Table.from_pylist(samples, schema=SAMPLES)
        graded = grading.grade(table["completion"], pa.array([GOLD[int(i)] for i, _, _ in rows]))
        self.inputs[f"{answers}-samples"] = self.write(f"{answers}-samples", "samples", table)
        self.inputs[f"{answers}-graded"] = self.write(f"{answers}-graded", "graded", graded)
        names = {"asked": "problems/test", "samples": f"{answers}-samples", "graded": f"{answers}-graded"}
        told = {"model": model, "problems": "mine", "few_shot": 0}
        return evaluate.Answers(**told, rules=grading.Rules(), is_greedy=is_greedy, **names)  # type: ignore[arg-type]

    def run(self, out: Path) -> dict[str, Any]:
        out.mkdir(parents=True)
        evaluate.run(self.inputs, out, self.settings, Job(num_threads=1))
        found: dict[str, Any] = json.loads((out / "evaluation.json").read_text())
        return found


def brute_force(measure: str, answers: list[str], gold: str) -> float:
    """The mean over all choices of k samples."""
    kind, k = measure.split("@")
    values = [float(text.removeprefix("$")) if text else None for text in answers]
    scores = []
    for chosen in itertools.combinations(values, int(k)):
        votes = Counter(value for value in chosen if value is not None)
        top = [value for value, count in votes.items() if count == max(votes.values())]
        won = (float(gold) in top) / len(top) if top else 0.0
        scores.append(won if kind == "maj" else float(float(gold) in chosen))
    return float(np.mean(scores))


def test_every_measure_against_brute_force(tmp_path: Path) -> None:
    result = Made(tmp_path).run(tmp_path / "evaluation")
    table = pq.read_table(tmp_path / "evaluation" / "evaluation.parquet")
    assert table.schema == EVALUATION
    rows = [row for row in table.to_pylist() if not row["measure"].endswith("flexible")]
    assert (len(rows), table.num_rows - len(rows)) == (3 * 4 * 7, 3 * 4)
    for row in rows:
        answers, gold = ANSWERS[row["model"]][int(row["problem_id"])], GOLD[int(row["problem_id"])]
        measure, asked = row["measure"], answers[:1] if row["measure"] == "greedy" else answers
        expected = brute_force("maj@1" if measure == "greedy" else measure, asked, gold)
        assert row["value"] == pytest.approx(expected, abs=1e-12), row
    told = {(row["model"], row["measure"]): row for row in result["measures"]}
    assert told["rft", "maj@3"]["num_problems"] == 4
    for (model, measure), row in told.items():
        rows = [r["value"] for r in table.to_pylist() if (r["model"], r["measure"]) == (model, measure)]
        assert row["value"] == pytest.approx(np.mean(rows)) and row["low"] <= row["value"] <= row["high"]


def test_the_headline_is_the_greedy_answers(tmp_path: Path) -> None:
    result = Made(tmp_path).run(tmp_path / "evaluation")
    assert [result[model]["accuracy"] for model in MODELS] == [0.25, 0.75, 1.0]
    assert (result["rft"]["low"], result["rft"]["high"]) == stats.wilson(4, 4)
    assert result["num_test"] == 4 and result["p_value"] == 1.0 and result["gain"]["difference"] == 0.25


def test_problems_of_one_cluster_count_together(tmp_path: Path) -> None:
    made = Made(tmp_path)
    rows = pq.read_table(tmp_path / "problems" / "problems.parquet")
    made.write("problems", "problems", rows.append_column(CLUSTER_FIELD, pa.array(["a", "a", "b", "b"])))
    result = made.run(tmp_path / "evaluation")
    table = pq.read_table(tmp_path / "evaluation" / "evaluation.parquet")
    assert table.schema == EVALUATION.append(CLUSTER_FIELD) and table["cluster"].to_pylist()[:4] == ["a", "a", "b", "b"]
    assert result["num_clusters"] == 2 and result["sft"]["accuracy"] == 0.75
    # By hand: RFT gains nothing on a, and one of two problems on b; Student's quantile of one degree is 12.7.
    assert result["gain"] == {"difference": 0.25, "low": -1, "high": 1}, "0.25 +- 12.7 * 0.25, within what it can be"
    assert result["p_value"] == pytest.approx(0.5)


def test_without_greedy_answers_the_mean_over_samples_is_the_accuracy(tmp_path: Path) -> None:
    result = Made(tmp_path, with_greedy=False).run(tmp_path / "evaluation")
    assert [result[model]["accuracy"] for model in MODELS] == pytest.approx([3 / 20, 6 / 20, 12 / 20])
    gain = result["gain"]
    assert result["p_value"] is None and 0 < gain["low"] < gain["difference"] == pytest.approx(0.3)
    settings = steps("evaluate.greedy=false", "evaluate.pass_at=[4]")["evaluation"].settings
    assert settings.maj_at == (1,) and not any(entry.is_greedy for entry in settings.entries)


# -------------------------------------------------------------------------------------------------------- two runs ----


def table_of(values: list[float], measure: str = "greedy", question: str = "Q", model: str = "rft") -> pa.Table:
    labels = {"model": model, "problems": "mine", "few_shot": 0, "measure": measure}
    rows = [{"problem_id": str(i), "question": f"{question}{i}", **labels, "value": v} for i, v in enumerate(values)]
    return pa.Table.from_pylist(rows, schema=EVALUATION)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """a solves 0 to 5 of ten problems, b 2 to 9; of half the choices of samples b wins somewhat more."""
    monkeypatch.chdir(tmp_path)
    keep("a", table_of([1.0] * 6 + [0.0] * 4), table_of([0.2, 0.4, 0.9, 0.0], "maj@4"), table_of([1.0], model="sft"))
    keep("b", table_of([0.0] * 2 + [1.0] * 8), table_of([0.5, 0.4, 1.0, 0.1], "maj@4"))


def keep(run: str, *tables: pa.Table) -> None:
    (Path(run) / "evaluation").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.concat_tables(tables), Path(run) / "evaluation" / "evaluation.parquet")


def test_two_runs_are_compared_problem_by_problem(runs: None) -> None:
    greedy, votes = facts_of("evaluate", "a", "b")["comparisons"]
    assert (greedy["first"]["value"], greedy["second"]["value"]) == (0.6, 0.8)
    assert greedy["difference"] == pytest.approx(0.2) and greedy["low"] < 0.2 < greedy["high"]
    assert greedy["p_value"] == stats.mcnemar([True] * 2 + [False] * 4, [False] * 2 + [True] * 4)
    assert (greedy["only_first"], greedy["only_second"]) == (["0", "1"], ["6", "7", "8", "9"])
    assert votes["measure"] == "maj@4" and votes["p_value"] is votes["only_first"] is None
    assert votes["difference"] == pytest.approx(0.125) and 0 < votes["low"] < votes["high"] < 0.3


def test_runs_are_compared_in_any_form_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strict and flexible stand side by side: here all of a difference is one of form."""
    monkeypatch.chdir(tmp_path)
    for run, form in (("a", "It is {}."), ("b", "#### {}")):
        made = Made(tmp_path / run)
        texts = pa.array([form.format(gold) for gold in GOLD], pa.large_string())
        folder = tmp_path / run / "rft/test-samples"
        table = pq.read_table(folder / "samples.parquet")
        place = table.schema.get_field_index("completion")
        pq.write_table(table.set_column(place, table.schema.field(place), texts), folder / "samples.parquet")
        pq.write_table(grading.grade(texts, pa.array(GOLD)), tmp_path / run / "rft/test-graded/graded.parquet")
        made.run(tmp_path / run / "evaluation")
    rows = {(row["model"], row["measure"]): row for row in facts_of("evaluate", "a", "b")["comparisons"]}
    assert rows["rft", "greedy"]["difference"] == 1.0 and rows["rft", "greedy, flexible"]["difference"] == 0.0
    assert rows["rft", "greedy, flexible"]["first"]["value"] == 1.0
    assert [measure for model, measure in rows if model == "rft"][:2] == ["greedy", "greedy, flexible"]


def test_two_runs_in_words(runs: None) -> None:
    shown = run_qrft("evaluate", "a", "b").stdout
    assert "A: a" in shown and "B: b" in shown and "p = 0.69" in shown
    assert "test set: mine\nexamples: 0\n" in shown  # the same in all rows
    assert max(map(len, shown.splitlines())) <= 80 and re.search(r"greedy +10 +60.0% +80.0% +\+20.0 ", shown)
    assert "rft on mine, greedy: only A solves 2: 0, 1" in shown and "only B solves 4: 6, 7, 8, 9" in shown


def test_two_runs_count_clusters_where_they_are_known(runs: None) -> None:
    clusters = pa.array([str(i // 2) for i in range(10)])
    for run, values in (("c", [1.0] * 6 + [0.0] * 4), ("d", [0.0] * 2 + [1.0] * 8)):
        keep(run, table_of(values).append_column(CLUSTER_FIELD, clusters))
    [row] = facts_of("evaluate", "c", "d")["comparisons"]
    assert row["num_clusters"] == 5 and row["difference"] == pytest.approx(0.2)
    assert row["only_second"] == ["6", "7", "8", "9"] and row["p_value"] == pytest.approx(0.62, abs=0.01)
    assert "intervals over 5 clusters of alike problems" in run_qrft("evaluate", "c", "d").stdout


def test_problems_of_one_run_alone_are_told_and_left_out(runs: None) -> None:
    keep("c", table_of([1.0] * 4))
    [row] = facts_of("evaluate", "a", "c")["comparisons"]
    assert (row["num_problems"], row["num_unpaired"], row["difference"]) == (4, 6, 0.0)
    told = "rft on mine, greedy: 6 problems not counted, because only one of the runs has them."
    assert told in " ".join(run_qrft("evaluate", "a", "c").stdout.split())


def test_row_numbers_of_different_problems_are_not_paired(runs: None) -> None:
    keep("c", table_of([1.0] * 10, question="another "))
    message = fails(1, "evaluate", "a", "c")
    assert "no model was measured in both on the same problems" in message
    assert "Found rft on mine, sft on mine in the first, and rft on mine in the second." in message


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a"], "found 1 run folder. Expected two run folders, or samples alone."),
        (["a", "b", "a"], "found 3 run folders. Expected two"),
        (["a", "s.jsonl"], "s.jsonl: not a run folder. Expected two run folders, or samples alone."),
        (
            ["a", "b", "--maj", "4"],
            "--maj: applies only to samples. Two run folders are compared as they were evaluated: leave it out.",
        ),
        (["s.jsonl"], "Missing option '--problems'. Only the comparison of two run folders works without it."),
    ],
)
def test_what_can_not_be_compared(runs: None, words: list[str], said: str) -> None:
    assert said in fails(2, "evaluate", *words)


def test_the_folder_of_a_sweep_is_no_run_and_says_which_runs_it_holds(runs: None) -> None:
    keep("swept/seed=0", table_of([1.0]))
    keep("swept/seed=1/small", table_of([1.0]))
    message = fails(2, "evaluate", "swept", "swept")
    assert message.startswith("swept: not a run folder")
    assert "Run folders inside it: swept/seed=0, swept/seed=1/small" in message


def test_a_run_of_another_version_says_what_to_do(runs: None) -> None:
    keep("old", pa.table({"problem_id": ["0"], "model": ["rft"], "is_correct": [True]}))
    assert "Run its recipe again: only the evaluation is repeated." in fails(1, "evaluate", "a", "old")
