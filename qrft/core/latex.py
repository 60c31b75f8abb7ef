"""Answers that are expressions, judged by Math-Verify (the extra qrft[latex]) in processes that can be killed.

`core.grade` never calls this. What it grades as "expression" stays so until `resolve` judges those rows.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qrft.core.columns import Texts, as_bytes, as_chunked, same_length, threads
from qrft.core.grading import DEFAULT_RULES, Rules, parse_numbers

Outcome: TypeAlias = "bool | Literal['timeout', 'error']"

STATUSES: dict[Outcome, str] = {
    True: "latex_equal",
    False: "latex_different",
    "timeout": "latex_timeout",
    "error": "latex_error",
}
START_SECONDS = 60.0  # importing sympy takes a second, on a busy machine with a slow disk ten


def is_available() -> bool:
    return find_spec("math_verify") is not None


# ------------------------------------------------------------------------------------------------------ workers ----


class _Worker:
    """One process of latex_worker.py. It is started when it is first asked, and again after it has been killed."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None

    def judge(self, gold: str, answer: str) -> Outcome:
        process = self._process = self._process or self._start()
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
        # -P: the folder of the file is no place to import from.
        command = [
            sys.executable,
            "-P",
            str(Path(__file__).with_name("latex_worker.py")),
            str(math.ceil(self._timeout)),
        ]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing)
        if _read_line(process, START_SECONDS) != b"ready\n":
            _kill(process)
            raise RuntimeError(
                f"the process that compares expressions did not start within {START_SECONDS:.0f} seconds; "
                f"run `{' '.join(command)}` to see why"
            )
        return process

    def _give_up(self, outcome: Outcome) -> Outcome:
        self.close()
        return outcome

    def close(self) -> None:
        if self._process is not None:
            _kill(self._process)
        self._process = None


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def _read_line(process: subprocess.Popen[bytes], timeout_seconds: float) -> bytes | None:
    """A line, what there is of one when the process has ended, or None when the time is over."""
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


def judge(
    pairs: Sequence[tuple[str, str]], *, timeout_seconds: float = 5.0, num_workers: int | None = None
) -> list[Outcome]:
    """Whether the two texts of each pair (gold, answer) are the same expression.

    "timeout": it took longer, and the worker was killed; "error": it can't be read, or the worker crashed. Neither
    changes the outcome of another pair. May be called from any thread.
    """
    if not is_available():
        raise ImportError("Comparing expressions needs Math-Verify. Install it: run `pip install 'qrft[latex]'`.")
    outcomes: list[Outcome] = ["error"] * len(pairs)
    places = deque(range(len(pairs)))

    def take() -> int | None:
        try:
            return places.popleft()
        except IndexError:
            return None

    def work() -> None:
        worker = _Worker(timeout_seconds)
        try:
            while (place := take()) is not None:
                outcomes[place] = worker.judge(*pairs[place])
        finally:
            worker.close()

    num_threads = max(1, min(threads(num_workers), len(pairs)))
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for future in [pool.submit(work) for _ in range(num_threads)]:
                future.result()
        finally:
            places.clear()  # after a failure or Ctrl-C, no thread begins another pair
    return outcomes


# ---------------------------------------------------------------------------------------------------------- rows ----

ANSWERED = pa.array(["ok", "too_big", "expression"])
DELIMITERS = re.compile(r"(?<!\\)(?:\\[()\[\]]|\$+)")


def plain(answer: bytes) -> str:
    """An answer's text without what only says that it is math, and without Markdown around it."""
    return DELIMITERS.sub(" ", answer.decode("utf-8", "replace")).strip(" \t\n\v\f\r*_`.")


def _spans(
    texts: pa.ChunkedArray, rows: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> list[str]:
    found = texts.take(pa.array(rows)).to_pylist()
    return [plain(as_bytes(text)[starts[row] : ends[row]]) for text, row in zip(found, rows, strict=True)]


def _judge_once_each(pairs: list[tuple[str, str]], timeout_seconds: float, num_workers: int | None) -> list[Outcome]:
    """Many samples of a problem give the same text, and a text is itself."""
    outcomes: dict[tuple[str, str], Outcome] = {pair: True for pair in pairs if pair[0] == pair[1]}
    rest = list(dict.fromkeys(pair for pair in pairs if pair not in outcomes))
    if rest:
        judged = judge(rest, timeout_seconds=timeout_seconds, num_workers=num_workers)
        outcomes.update(zip(rest, judged, strict=True))
    return [outcomes[pair] for pair in pairs]


def resolve(
    completions: Texts,
    gold_answers: Texts,
    graded: pa.Table,
    *,
    rules: Rules = DEFAULT_RULES,
    timeout_seconds: float = 5.0,
    num_workers: int | None = None,
) -> pa.Table:
    """The table of `core.grade`, with its expressions judged.

    Every row that has an answer and a gold answer, one of them an expression, gets one of STATUSES, and is correct when
    that is "latex_equal". All other rows stay as they are. `rules` are those of the grading.
    """
    texts, golds = as_chunked(completions), as_chunked(gold_answers)
    same_length(len(texts), gold_answers=golds, graded=graded)
    gold, status = parse_numbers(golds, rules=rules), graded["status"].cast(pa.string()).combine_chunks()
    both_answered = pc.and_(pc.is_in(status, ANSWERED), pc.is_in(gold.statuses, ANSWERED))
    mask = pc.and_(both_answered, pc.or_(pc.equal(status, "expression"), pc.equal(gold.statuses, "expression")))
    rows = np.flatnonzero(mask)
    starts, ends = (graded[name].to_numpy() for name in ("answer_start", "answer_end"))
    pairs = list(zip(_spans(golds, rows, gold.starts, gold.ends), _spans(texts, rows, starts, ends), strict=True))
    outcomes = _judge_once_each(pairs, timeout_seconds, num_workers)
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
