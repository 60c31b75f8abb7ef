"""The stream that grade, curate and evaluate work on: graded batches in the order of the files, and their totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qrft import grading
from qrft.config.options import from_options
from qrft.data.problems.registry import load, rules_for
from qrft.data.samples import Batch, Faults, Numbering, Unit, ahead, files_of, units
from qrft.data.worked import has_answer
from qrft.errors import DataError, UsageError
from qrft.evaluation.poll import Poll, Voted, with_votes
from qrft.grading.batch import BatchGrader, of_samples
from qrft.grading.columns import threads as core_threads
from qrft.grading.judges import decided
from qrft.grading.latex import HOW_TO_INSTALL, judges_expressions
from qrft.grading.paths import ANSWER, COMPARED, CUT_OFF, answered_by, is_right_path, path_sources, soundness
from qrft.grading.rules import DEFAULT_RULES, NO_VERDICTS, Gold, Verdicts
from qrft.progress import Progress, unwatched


@dataclass(frozen=True)
class Task:
    """What to grade, and how."""

    samples: Sequence[Path]
    problems: str  # a file or a name
    rules: grading.Rules = DEFAULT_RULES
    num_threads: int = 1
    strict: bool = False  # a malformed row is an error
    judges_paths: bool = False  # say which right paths are sound
    verdicts: Verdicts = NO_VERDICTS
    vote: float | None = None  # the share of a problem's samples that makes an answer its gold one, where it has none
    progress: Progress = unwatched  # of bytes
    warn: Callable[[str], None] = lambda message: None

    @property
    def tells_judges(self) -> bool:
        """Whether what is written says by what each sample was judged."""
        return self.verdicts.verdicts or self.vote is not None


def task(
    samples: Sequence[Path],
    problems: str,
    *,
    threads: int | None = None,
    strict: bool = False,
    judges_paths: bool = False,
    progress: Progress,
    warn: Callable[[str], None],
    **rules: Any,
) -> Task:
    """Make a task of the options of the command line. Raises UsageError for options that exclude each other."""
    num_threads = core_threads(threads)
    paths = [path for given in samples for path in files_of(given)]
    own = from_options(Verdicts, {name: rules.pop(name) for name in Verdicts.model_fields if name in rules})
    vote = from_options(Gold, {name: rules.pop(name) for name in Gold.model_fields if name in rules}).vote
    if vote is not None and own.verdicts:
        raise UsageError(f"--vote: found {vote:g} with --verdicts, which decide themselves. Leave one of the two out.")
    chosen = rules_for(problems, from_options(grading.Rules, rules))
    if judges_paths and chosen.mode == "paper":
        raise UsageError("--sound: found with --mode paper, which judges no path. Leave one of the two out.")
    return Task(paths, problems, chosen, num_threads, strict, judges_paths, own, vote, progress, warn)


class Problems:
    """The table of problems, with what grading needs of it, and with the answers that their samples voted for."""

    def __init__(self, task: Task) -> None:
        self.table = load(task.problems, needs_answers=not task.tells_judges).combine_chunks()
        self.ids = self._column("problem_id").cast(pa.large_string())
        self.votes = None if task.vote is None else _votes(task, self.table, self.ids)
        if self.votes is not None:
            self.table = with_votes(self.table, self.votes)
        self.answered_by = answered_by(self.table, self.votes)
        if self.answered_by is None and task.tells_judges:
            self.answered_by = pa.repeat(ANSWER, len(self))
        self.answers = self._column("answer")
        self.questions = self._column("question")
        self._read(task)

    def _read(self, task: Task) -> None:
        statuses = grading.parse_numbers(self.answers, rules=task.rules, num_threads=1).statuses
        comparable = ["ok", "expression"] if judges_expressions(task.rules) else ["ok"]
        is_comparable = np.isin(statuses.to_numpy(zero_copy_only=False), comparable)
        has_gold = has_answer(self.table)
        if nothing := int((~has_gold).sum()):
            instead = "verdicts" if task.vote is None else "a vote that is clear enough"
            task.warn(
                f"{nothing:,} of {len(self):,} problems have no answer: nothing but {instead} makes samples right."
            )
        unread = np.flatnonzero(has_gold & ~is_comparable).tolist()
        if unread:
            first = f"problem_id {self.ids[unread[0]].as_py()!r}: {self.answers[unread[0]].as_py()[:60]!r}"
            few = f"{len(unread):,} of {len(self):,} gold answers"
            task.warn(f"{few} are not numbers, so no answer equals them ({first}).")

    def _column(self, name: str) -> pa.Array:
        column = self.table[name]
        return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)

    def __len__(self) -> int:
        return len(self.ids)

    def gold(self, problem: npt.NDArray[np.int32]) -> pa.DictionaryArray:
        """Return each row's gold answer."""
        return of_samples(self.answers, problem)

    def asked(self, problem: npt.NDArray[np.int32]) -> pa.DictionaryArray:
        """Return each row's question."""
        return of_samples(self.questions, problem)

    def judged_by(self, problem: npt.NDArray[np.int32]) -> pa.Array | None:
        """Return what gave each row its gold answer; None where nobody asks."""
        return None if self.answered_by is None else self.answered_by.take(pa.array(problem))

    def facts(self) -> dict[str, int]:
        """Return the figures of the vote."""
        if self.votes is None:
            return {}
        return {"num_without_answer": self.votes.num_rows, "num_voted": int(has_answer(self.votes).sum())}


def _votes(task: Task, problems: pa.Table, ids: pa.Array) -> pa.Table:
    """Return schema.VOTES: all files are read once more, before any sample is judged."""
    poll, size = Poll(problems, task.rules), sum(_size(path) for path in task.samples)

    def read(unit: Unit) -> tuple[Voted, int]:
        batch = unit.read()
        return poll.read(batch.problem, batch.completion), unit.position

    tasks = (partial(read, unit) for unit in units(task.samples, ids))
    for voted, position in ahead(tasks, task.num_threads):
        poll.add(voted)
        task.progress(position, size, "counting votes")
    assert task.vote is not None
    return poll.votes(task.vote)


class Graded(NamedTuple):
    """A batch and its verdicts, row-aligned."""

    batch: Batch
    grades: pa.Table  # schema.GRADED
    extra: Any  # what the command asked for beside it
    models: npt.NDArray[np.int32]  # numbers in Totals.models
    sample_index: npt.NDArray[np.int32]


@dataclass
class Totals:
    """What the samples add up to. It is complete once `graded` has ended."""

    num_problems: int
    models: list[str] = field(default_factory=list)
    num_samples: int = 0
    num_correct: int = 0
    num_equations_ok: int = 0
    num_cut_off: int = 0
    faults: Faults = field(default_factory=Faults)
    answer_statuses: Counter[str] = field(default_factory=Counter)
    path_sources: Counter[str] = field(default_factory=Counter)
    soundness: Counter[str] = field(default_factory=Counter)
    equation_statuses: Counter[str] = field(default_factory=Counter)

    def add(self, batch: Batch, grades: pa.Table) -> None:
        self.faults.extend(batch.faults)
        self.num_samples += grades.num_rows
        self.num_correct += pc.sum(grades["is_correct"]).as_py() or 0
        self.num_equations_ok += int(np.count_nonzero(is_right_path(grades)))
        self.num_cut_off += pc.sum(pc.equal(batch.finish_reason, CUT_OFF)).as_py() or 0
        self.path_sources += path_sources(grades)
        self.soundness += soundness(grades)
        for counter, name in ((self.answer_statuses, "status"), (self.equation_statuses, "equations_status")):
            counter.update({row["values"]: row["counts"] for row in pc.value_counts(grades[name]).to_pylist()})

    def facts(self) -> dict[str, Any]:
        """Return the figures as `--json` prints them."""
        return {
            "num_samples": self.num_samples,
            "num_answered": sum(self.answer_statuses[status] for status in COMPARED),
            "num_correct": self.num_correct,
            "num_equations_ok": self.num_equations_ok,
            "num_cut_off": self.num_cut_off,
            "num_problems": self.num_problems,
            "num_malformed": self.faults.count,
            "answer_statuses": dict(self.answer_statuses.most_common()),
            "equation_statuses": dict(self.equation_statuses.most_common()),
            "told_apart_by": dict(self.path_sources.most_common()),
            **({"soundness": dict(self.soundness.most_common())} if self.soundness else {}),
        }


def graded(
    task: Task, problems: Problems, totals: Totals, also: Callable[[Batch, pa.Table], Any] = lambda batch, grades: None
) -> Generator[Graded, None, None]:
    """Yield every batch, graded in threads ahead of its use; mostly `also` runs there too.

    Close the iterator, so that no process is left behind when its user fails. Raises DataError for bad files.
    """
    numbering, size = Numbering(problems.ids), sum(_size(path) for path in task.samples)
    totals.models = numbering.models

    def work(read_batch: Callable[[], Batch], position: int) -> tuple[Batch, pa.Table, Any, int]:
        batch = read_batch()
        read = grader.read(batch.completion, problems.gold(batch.problem), 1, asked(batch))
        return batch, read, also(batch, judged(batch, read)), position

    def asked(batch: Batch) -> pa.DictionaryArray | None:
        return problems.asked(batch.problem) if task.judges_paths else None

    def judged(batch: Batch, grades: pa.Table) -> pa.Table:
        by, rules = problems.judged_by(batch.problem), task.rules
        return decided(batch.completion, grades, batch.is_right, by, asked(batch), rules=rules, num_threads=1)

    def tell(position: int, num_judged: int = 0) -> None:
        judging = f", {num_judged:,} expressions compared" if num_judged else ""
        task.progress(position, size, f"{totals.num_samples:,} samples{judging}")

    tasks = (
        partial(work, unit.read, unit.position)
        for unit in units(task.samples, problems.ids, verdicts=task.verdicts, questions=problems.questions.to_pylist())
    )
    done = 0
    with BatchGrader(task.rules, task.num_threads) as grader:
        for batch, read, extra, position in ahead(tasks, task.num_threads):
            _check(task, batch.faults)
            compared = grader.judge(batch.completion, problems.gold(batch.problem), read, partial(tell, done))
            grades = judged(batch, compared)
            if compared is not read:
                extra = also(batch, grades)
            totals.add(batch, grades)
            tell(done := position)
            yield Graded(batch, grades, extra, *numbering.add(batch))
    numbering.check()
    _warn(task, totals)
    if not totals.num_samples:
        raise DataError(f"{', '.join(map(str, task.samples))}: found no samples. {''.join(totals.faults.first[:1])}")


def _check(task: Task, faults: Faults) -> None:
    if task.strict and faults.count:
        raise DataError(f"{faults.first[0]} Correct or remove it, or leave --strict out to skip such rows.")


def _warn(task: Task, totals: Totals) -> None:
    faults, num_expressions = totals.faults, totals.answer_statuses["expression"]
    for message in faults.first:
        task.warn(f"Skipped: {message}")
    if faults.count > len(faults.first):
        task.warn(f"Skipped: {faults.count - len(faults.first):,} more rows.")
    if num_expressions and not judges_expressions(task.rules):
        task.warn(f"{num_expressions:,} answers are expressions, which were not judged. {HOW_TO_INSTALL}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}). Name a file of samples.") from error
