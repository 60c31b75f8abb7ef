"""Problems that have a worked solution, which can be learnt from, and those that have only a bare answer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qrft.errors import DataError

_EMPTY = pa.scalar(
    "", pa.large_string()
)  # pyarrow looks for dateutil, in vain, each time that it is given a Python value

_NO_ANSWER = pa.scalar("", pa.string())

WAY_OUT = (
    'Give worked solutions: under "answer" with the answer at the end, after #### or in \\boxed{}, or under "solution" '
    "beside the answer. Or let a model that solves some of the problems write them: with `start: base` and a round or "
    "more, `qrft run` samples the base model itself."
)


def is_worked(problems: pa.Table) -> npt.NDArray[np.bool_]:
    """Return whether each problem of a table (schema.PROBLEMS) has a worked solution."""
    flags: npt.NDArray[np.bool_] = pc.not_equal(problems["solution"], _EMPTY).to_numpy()
    return flags


def has_answer(problems: pa.Table) -> npt.NDArray[np.bool_]:
    """Return whether each problem of a table (schema.PROBLEMS) has a gold answer."""
    flags: npt.NDArray[np.bool_] = pc.not_equal(problems["answer"], _NO_ANSWER).to_numpy()
    return flags


def gold_texts(problems: pa.Table) -> pa.ChunkedArray:
    """Return each problem's worked solution, or else its bare answer: a text like those that a model writes."""
    return pc.if_else(pa.array(is_worked(problems)), problems["solution"], problems["answer"])


def check_worked(problems: pa.Table, place: str) -> None:
    """Raise DataError where no problem has a worked solution, so that there is nothing to fine-tune on."""
    if is_worked(problems).any():
        return
    first = problems.slice(0, 1).to_pylist()[0]
    raise DataError(
        f"{place}: none of {problems.num_rows:,} problems has a worked solution, which SFT learns from; found bare "
        f"answers, such as {first['answer'][:40]!r} of problem_id {first['problem_id'][:40]!r}. {WAY_OUT}"
    )
