"""Answers that are expressions, judged by Math-Verify (the extra qrft[latex]) in processes that can be killed.

`grading.grade` never calls this. What it grades as "expression" stays so until `resolve` judges those rows:

    with Judges() as judges:
        graded = resolve(completions, gold_answers, graded, judges)
"""

from __future__ import annotations

import json
import math
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from importlib.util import find_spec
from pathlib import Path
from queue import LifoQueue
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qrft.errors import QrftError
from qrft.grading.columns import Texts, as_bytes, as_chunked, same_length, threads
from qrft.grading.grader import parse_numbers
from qrft.grading.latex_text import is_same, plain
from qrft.grading.rules import DEFAULT_RULES, Rules

Outcome: TypeAlias = "bool | Literal['undecided', 'timeout', 'error']"

STATUSES: dict[Outcome, str] = {
    True: "latex_equal",
    False: "latex_different",
    "undecided": "latex_undecided",
    "timeout": "latex_timeout",
    "error": "latex_error",
}
HOW_TO_INSTALL = "Comparing expressions needs Math-Verify: run `pip install 'qrft[latex]'`."
WAKE_SECONDS = 0.5  # Ctrl-C may not end a wait for another thread; it takes effect after this time
START_SECONDS = 60.0  # importing sympy takes a second, and ten on a busy machine with a slow disk


def is_available() -> bool:
    return find_spec("math_verify") is not None


def judges_expressions(rules: Rules) -> bool:
    """Return whether expressions are compared: Math-Verify is installed, and the rules know them."""
    return rules.mode != "paper" and is_available()


def _distinct_statuses(golds: pa.ChunkedArray, rules: Rules) -> pa.Array:
    """Return the statuses of the different gold answers."""
    return parse_numbers(golds.unique(), rules=rules).statuses


def _has_expressions(statuses: pa.Array | pa.ChunkedArray) -> bool:
    return "expression" in pc.unique(statuses).to_pylist()


# ------------------------------------------------------------------------------------------------------ workers ----


class _Worker:
    """One process of latex_worker.py, started when it is first asked, and again after it was killed."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def judge(self, gold: str, answer: str) -> Outcome:
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps([gold, answer]).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return self._give_up("error")
        reply = _read_line(process, self._timeout)
        if reply is None or not reply:
            return self._give_up("timeout" if reply is None else "error")
        verdict: Outcome = json.loads(reply)
        return verdict

    def _start(self) -> subprocess.Popen[bytes]:
        # -P: nothing is imported from the file's folder.
        command = [
            sys.executable,
            "-P",
            str(Path(__file__).with_name("latex_worker.py")),
            str(math.ceil(self._timeout)),
        ]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        process = self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing)
        if self._is_stopped:  # just now
            process.kill()
        if _read_line(process, START_SECONDS) != b"ready\n":
            self.close()
            raise QrftError(
                f"The process that compares expressions did not start within {START_SECONDS:.0f} seconds; "
                f"run `{' '.join(command)}` to see why."
            )
        return process

    def _give_up(self, outcome: Outcome) -> Outcome:
        self.close()
        return outcome

    def stop(self) -> None:
        """End the worker at once and for good, from any thread."""
        self._is_stopped = True
        if process := self._process:
            process.kill()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._process = None


def _read_line(process: subprocess.Popen[bytes], timeout_seconds: float) -> bytes | None:
    """Return a line, or as much of it as came before the process ended, or None when the time is over."""
    assert process.stdout is not None
    deadline, line = time.monotonic() + timeout_seconds, b""
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    while not line.endswith(b"\n"):
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None
        if not (piece := os.read(process.stdout.fileno(), 4096)):
            return b""
        line += piece
    return line


class Judges:
    """Worker processes that compare expressions, for as long as this is open; none is started before it is needed.

    "undecided": Math-Verify says that they are equal, but it did not read all of both, or their values may differ;
    "timeout": a pair took longer than `timeout_seconds`, and its worker was killed; "error": it can't be read, or the
    worker crashed. None changes the outcome of another pair. Use as a context manager.
    """

    def __init__(self, num_workers: int | None = None, timeout_seconds: float = 5.0) -> None:
        workers = [_Worker(timeout_seconds) for _ in range(threads(num_workers))]
        self._workers = workers
        self._idle: LifoQueue[_Worker] = LifoQueue()  # the last one that worked comes first: it is already started
        for worker in workers:
            self._idle.put(worker)
        self._pool = ThreadPoolExecutor(len(workers))
        self._known: dict[tuple[str, str], Outcome] = {}  # keeping a verdict is cheaper than judging again

    def __enter__(self) -> Judges:
        return self

    def __exit__(self, *error: object) -> None:
        """End at once, whatever is under way."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.stop()
        self._pool.shutdown()  # a thread keeps its worker until the pair is judged
        for worker in self._workers:
            worker.close()

    def judge(
        self, pairs: Sequence[tuple[str, str]], progress: Callable[[int], None] = lambda num_judged: None
    ) -> list[Outcome]:
        """Return whether the texts of each pair (gold, answer) are the same expression; equal pairs are judged once.

        Raises ImportError without Math-Verify. `progress` gets the number of pairs that have been sent to a worker.
        """
        new = list(dict.fromkeys(pair for pair in pairs if pair not in self._known))
        self._known.update((pair, True) for pair in new if is_same(*pair))
        rest = [pair for pair in new if pair not in self._known]
        if rest and not is_available():
            raise ImportError(HOW_TO_INSTALL)
        for number, future in enumerate([self._pool.submit(self._judge, pair) for pair in rest]):
            while not future.done():
                wait([future], WAKE_SECONDS)
            self._known[rest[number]] = future.result()
            progress(number + 1)
        return [self._known[pair] for pair in pairs]

    def _judge(self, pair: tuple[str, str]) -> Outcome:
        worker = self._idle.get()
        try:
            return worker.judge(*pair)
        finally:
            self._idle.put(worker)


# ---------------------------------------------------------------------------------------------------------- rows ----

ANSWERED = pa.array(["ok", "too_big", "expression"])


def spans(
    texts: pa.ChunkedArray, rows: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> list[str]:
    """Return the plain answers of some rows; starts and ends are those of all rows."""
    taken = texts.take(pa.array(rows)).to_pylist()
    return [plain(as_bytes(text)[starts[row] : ends[row]]) for text, row in zip(taken, rows, strict=True)]


def resolve(
    completions: Texts,
    gold_answers: Texts,
    graded: pa.Table,
    judges: Judges,
    *,
    rules: Rules = DEFAULT_RULES,
    progress: Callable[[int], None] = lambda num_judged: None,
) -> pa.Table:
    """Return the table of `grading.grade` with its expressions judged; the same object when there are none.

    Every row that has an answer and a gold answer, one of them an expression, gets one of STATUSES, and is correct when
    that is "latex_equal". All other rows stay as they are. `rules` are those of the grading.
    """
    texts, golds = as_chunked(completions), as_chunked(gold_answers)
    same_length(len(texts), gold_answers=golds, graded=graded)
    if not _has_expressions(graded["status"]) and not _has_expressions(_distinct_statuses(golds, rules)):
        return graded
    gold, status = parse_numbers(golds, rules=rules), graded["status"].cast(pa.string()).combine_chunks()
    both_answered = pc.and_(pc.is_in(status, ANSWERED), pc.is_in(gold.statuses, ANSWERED))
    mask = pc.and_(both_answered, pc.or_(pc.equal(status, "expression"), pc.equal(gold.statuses, "expression")))
    rows = np.flatnonzero(mask)
    if not len(rows):
        return graded
    starts, ends = (graded[name].to_numpy() for name in ("answer_start", "answer_end"))
    pairs = list(zip(spans(golds, rows, gold.starts, gold.ends), spans(texts, rows, starts, ends), strict=True))
    outcomes = judges.judge(pairs, progress)
    replace = {
        "status": pa.array([STATUSES[outcome] for outcome in outcomes], pa.string()),
        "is_correct": pa.array([outcome is True for outcome in outcomes], pa.bool_()),
    }
    for name, values in replace.items():
        field = graded.schema.field(name)
        column = pc.replace_with_mask(graded[name].cast(values.type).combine_chunks(), mask, values)
        encoded = column.dictionary_encode().cast(field.type) if name == "status" else column
        graded = graded.set_column(graded.schema.get_field_index(name), field, encoded)
    return graded
