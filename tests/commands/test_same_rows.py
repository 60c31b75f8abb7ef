"""The stages of `qrft run` and the commands write the same rows for the same samples, problems and settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from qrft.commands import curate, evaluate, grade
from qrft.commands.curate import Output
from qrft.commands.grading import Task
from qrft.config.section import Section
from qrft.data.problems.own_files import read_file
from qrft.data.schema import GRADED, SAMPLES
from qrft.grading import Rules, Selection, latex
from qrft.pipeline.stages import Job, Report
from qrft.pipeline.stages import curate as curate_stage
from qrft.pipeline.stages import evaluate as evaluate_stage
from qrft.pipeline.stages import grade as grade_stage
from qrft.pipeline.stages import pairs as pairs_stage
from qrft.pipeline.stages import problems as problems_stage
from qrft.sampling.budget import Until
from qrft.sampling.tally import Tally

WORKED = "2+3=<<2+3=5>>5\n#### 5"
BOXED = r"Since $2+3=5$, the answer is $\boxed{5}$."
ROOT = r"\frac{\sqrt{2}}{2}"

Sample = tuple[int, str, str]  # problem, model, completion


@dataclass(frozen=True)
class Case:
    """Awkward input: rows of a problem file, samples in the order of their file, and settings."""

    problems: Sequence[dict[str, Any]]
    samples: Sequence[Sample]
    rules: dict[str, Any] = field(default_factory=dict)
    selection: dict[str, Any] = field(default_factory=dict)


def by(model: str, problem: int, *completions: str) -> list[Sample]:
    return [(problem, model, completion) for completion in completions]


CASES = {
    "bare answers": Case(
        [
            {"question": "a", "answer": "5"},
            {"question": "b", "answer": r"\boxed{7}"},
            {"question": "c", "answer": WORKED},
        ],
        [
            *by("m", 0, "It is five.\n#### 5", "5, plainly.\n#### 5", "<<2+3=5>>\n#### 5", "#### 6"),
            *by("m", 1, "#### 7", "seven #### 7", "#### $7"),
            *by("m", 2, "five\n#### 5", WORKED),
        ],
    ),
    "boxed": Case(
        [{"problem": "a", "answer": "5", "solution": BOXED}, {"problem": "b", "answer": BOXED}],
        [
            *by("m", 0, BOXED, r"<<3+2=5>> so \boxed{5}", r"\boxed{6}", r"First \boxed{1}, then \boxed{5}"),
            *by("m", 1, r"\boxed{5", "#### 5", r"2+3 = 5 \boxed{5}"),
        ],
        {"answer_format": "boxed", "equations": "anywhere"},
    ),
    "no equations": Case(
        [{"question": "a", "answer": "Count: five.\n#### 5"}, {"question": "b", "answer": WORKED}],
        [*by("m", 0, "one #### 5", "two #### 5", "<<1+4=5>> #### 5"), *by("m", 1, "one #### 5", "two #### 5")],
    ),
    "duplicates of gold": Case(
        [{"question": "a", "answer": WORKED}],
        by("m", 0, WORKED, "<< 2 + 3 = 5 >>\n#### 5", "<<3+2=5>> #### 5", "<<3+2=5>> again #### 5.0"),
    ),
    "wrong equations": Case(
        [{"question": "a", "answer": WORKED}],
        by("m", 0, "<<2+2=5>> #### 5", "<<2+3=5 #### 5", "<<>> #### 5", "<<1/0=5>> #### 5", "<<4+1=5>> #### 5"),
        selection={"keep": "first"},
    ),
    "several models": Case(
        [{"question": "a", "answer": WORKED}, {"question": "b", "answer": "9"}],
        [
            *by("one", 1, "<<4+5=9>> #### 9"),
            *by("two", 0, "<<1+4=5>> #### 5", "<<4+1=5>> #### 5"),
            *by("one", 0, "<<4+1=5>> four first #### 5", "<<1+4=5>> one first #### 5"),
            *by("two", 1, "<<4+5=9>> again #### 9", "nine #### 9"),
        ],
    ),
    "mode paper": Case(
        [{"question": "a", "answer": WORKED}, {"question": "b", "answer": "9"}],
        [
            *by("m", 0, "<<3+2=5>> so #### 5", WORKED, "now at last and after all <<3+2=5>> #### 5", "none #### 5"),
            *by("m", 1, "#### 9", "<<4+5=9>> #### 9", "<<>> #### 9", "####9"),
        ],
        {"mode": "paper"},
    ),
    "commutative order": Case(
        [{"question": "a", "answer": WORKED}],
        by("m", 0, "<<3+2=5>> #### 5", "<<1+4=5>> #### 5", "<<4+1=5>> four #### 5"),
        {"order": "commutative"},
        {"keep": "shortest"},
    ),
    "no dedup": Case(
        [{"question": "a", "answer": WORKED}, {"question": "b", "answer": "9"}],
        [*by("m", 0, WORKED, "<<3+2=5>> #### 5", "<<3+2=5>> #### 5", "#### 4"), *by("m", 1, "#### 9", "#### 9")],
        selection={"dedup": False},
    ),
    "at most two paths": Case(
        [{"question": "a", "answer": WORKED}, {"question": "b", "answer": "9"}],
        [
            *by("m", 0, *(f"<<{i}+{5 - i}=5>> #### 5" for i in range(6))),
            *by("m", 1, *(f"<<{i}+{9 - i}=9>> #### 9" for i in range(1, 4))),
        ],
        selection={"keep": "longest", "max_per_problem": 2},
    ),
    "empty completions": Case(
        [{"question": "a", "answer": WORKED}, {"question": "never sampled", "answer": WORKED}],
        by("m", 0, "", " ", "#### 5", "####", "\n#### 5"),
    ),
    "expressions": Case(
        [{"question": "a", "answer": ROOT}, {"question": "b", "answer": "42"}],
        [
            *by(
                "m", 0, r"\boxed{\frac{1}{\sqrt2}}", rf"\boxed{{{ROOT}}}", r"<<1+1=2>> \boxed{\sqrt{1/2}}", r"\boxed{3}"
            ),
            *by("m", 1, r"\boxed{6\cdot 7}", r"\boxed{42}", r"\boxed{x+}"),
        ],
        {"answer_format": "boxed"},
    ),
}


class Both:
    """A case's rows by both ways, in a folder of its own."""

    def __init__(self, folder: Path, case: Case) -> None:
        self.folder, self.rules, self.selection = folder, Rules(**case.rules), Selection(**case.selection)
        self.problem_file, self.samples_file = folder / "problems.jsonl", folder / "samples.parquet"
        self.problem_file.write_text("".join(json.dumps(row) + "\n" for row in case.problems))
        indexes: dict[tuple[int, str], int] = {}
        rows = []
        for problem, model, completion in case.samples:
            index = indexes[problem, model] = indexes.get((problem, model), -1) + 1
            values = {"problem_id": str(problem), "model": model, "sample_index": index, "completion": completion}
            rows.append({**values, "finish_reason": "stop", "num_tokens": 1, "logprob": 0.0})
        self.samples = pa.Table.from_pylist(rows, schema=SAMPLES)
        pq.write_table(self.samples, self.samples_file)
        self.task = Task([self.samples_file], str(self.problem_file), self.rules, num_threads=2)

    def stage(self, run: Callable[..., Report], settings: Section, **inputs: Path) -> Path:
        """The folder that a stage filled."""
        out = self.folder / run.__module__.rpartition(".")[2]
        out.mkdir()
        run(inputs, out, settings, Job(num_threads=1))
        return out

    def problems(self) -> Path:
        return self.stage(problems_stage.run, problems_stage.Settings(num_problems=None), file=self.problem_file)

    def graded(self, problems: Path) -> Path:
        settings = grade_stage.Settings(rules=self.rules, judges_expressions=latex.judges_expressions(self.rules))
        return self.stage(grade_stage.run, settings, samples=self.folder, problems=problems)


@pytest.fixture(params=CASES)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Both:
    return Both(tmp_path, CASES[request.param])


def test_problems_grades_training_rows_and_measures_are_the_same(both: Both) -> None:
    problems = both.problems()
    assert pq.read_table(problems / "problems.parquet") == read_file(both.problem_file)

    graded = both.graded(problems)
    grade.run(both.task, both.folder / "g.parquet")
    assert pq.read_table(both.folder / "g.parquet").select(GRADED.names) == pq.read_table(graded / "graded.parquet")

    settings = curate_stage.Settings(**dict(both.selection), rules=both.rules, sources=("",))
    trained = both.stage(curate_stage.run, settings, samples=both.folder, graded=graded, problems=problems)
    output = Output(both.folder / "t.parquet", pairs=both.folder / "pairs.parquet")
    facts = curate.run(both.task, output, both.selection)
    rows = pq.read_table(trained / "training.parquet")
    assert pq.read_table(both.folder / "t.parquet") == rows
    curate.run(both.task, Output(both.folder / "t.jsonl"), both.selection)
    assert (both.folder / "t.jsonl").read_text() == (trained / "training.jsonl").read_text()
    assert facts["num_kept"] == pc.sum(pc.not_equal(rows["source"], "gold")).as_py()

    pairing = pairs_stage.Settings(**dict(both.selection), rules=both.rules, sources=("",))
    paired = both.stage(pairs_stage.run, pairing, samples=both.folder, graded=graded, problems=problems)
    assert pq.read_table(both.folder / "pairs.parquet") == pq.read_table(paired / "pairs.parquet")
    assert facts["num_pairs"] == pq.read_table(paired / "pairs.parquet").num_rows

    places = {"asked": "problems", "samples": "samples", "graded": "graded"}
    entry = evaluate_stage.Answers(model="m", problems="p", few_shot=0, rules=both.rules, is_greedy=False, **places)
    measures = evaluate_stage.Settings(maj_at=(1,), pass_at=(1,), entries=(entry,))
    measured = both.stage(evaluate_stage.run, measures, problems=problems, samples=both.folder, graded=graded)
    facts = evaluate.run(both.task, [1], [1])
    for measure in json.loads((measured / "evaluation.json").read_text())["measures"]:
        assert {key: measure[key] for key in ("value", "low", "high")} == facts[measure["measure"]]


def test_until_distinct_counts_the_paths_that_are_kept(both: Both) -> None:
    """With the rule of one path per equation list and no limit, whatever the settings of the case."""
    selection = Selection(keep="first")
    curate.run(both.task, Output(both.folder / "t.parquet"), selection)
    table = pq.read_table(both.folder / "t.parquet")
    kept = table.filter(pc.not_equal(table["source"], "gold"))["problem_id"].to_pylist()
    tally = Tally(read_file(both.problem_file), Until(distinct=1), both.rules, num_threads=1)
    tally.add(both.samples)
    is_paper = both.rules.mode == "paper"  # whose script never looks at the gold path, so that it is kept again
    for problem_id in read_file(both.problem_file)["problem_id"].to_pylist():
        found_again = is_paper and problem_id == "0"
        assert tally.count(problem_id, "distinct") == kept.count(problem_id) - found_again


def test_the_cases_hold_what_they_are_named_for(tmp_path: Path) -> None:
    """Without it, equal rows could be equal because nothing happens in them."""
    sources = {}
    for name, case in CASES.items():
        folder = tmp_path / name
        folder.mkdir()
        both = Both(folder, case)
        curate.run(both.task, Output(folder / "t.parquet"), both.selection)
        rows = pq.read_table(folder / "t.parquet").to_pylist()
        sources[name] = " ".join(f"{row['problem_id']}{row['source'][0]}" for row in rows)
    expressions = "0m 0m 0m 1m 1m" if latex.is_available() else "1m"
    assert sources == {
        "bare answers": "0m 0m 0m 1m 1m 2g 2m",
        "boxed": "0g 0m 0m 1g 1m 1m",
        "no equations": "0g 0m 0m 0m 1g 1m 1m",
        "duplicates of gold": "0g 0m",
        "wrong equations": "0g 0m",
        "several models": "0g 0t 0o 1o 1t",
        "mode paper": "0g 0m 0m 0m 1m 1m",
        "commutative order": "0g 0m",
        "no dedup": "0g 0m 0m 0m 1m 1m",
        "at most two paths": "0g 0m 0m 1m 1m",
        "empty completions": "0g 0m 1g",
        "expressions": expressions,
    }
