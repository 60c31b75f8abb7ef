"""The problem sets that are known by name, such as "gsm8k/train"; a file is named by its path.

To add a set: a file of its own here, with an example row on top, and a line in MODULES.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import pyarrow as pa

from qrft.data.file_hashes import state
from qrft.data.problems.hub import download
from qrft.data.problems.own_files import read_file
from qrft.data.problems.own_set import OwnSet
from qrft.data.problems.problem_set import ProblemSet
from qrft.data.problems.table import as_table
from qrft.errors import DataError
from qrft.grading.rules import DEFAULT_FORMAT, Rules

MODULES = {
    "tiny-math": "tiny_math",
    "tiny-paths": "tiny_paths",
    "gsm8k": "gsm8k",
    "gsm8k_platinum": "gsm8k_platinum",
    "gsm-plus": "gsm_plus",
    "math": "hendrycks_math",
    "math-500": "math500",
    "aime": "aime",
    "svamp": "svamp",
    "asdiv": "asdiv",
    "asdiv-split": "asdiv_split",
    "multiarith": "multiarith",
    "mawps": "mawps",
}

SETS: dict[str, ProblemSet] = {name: import_module(f"{__package__}.{file}").SET for name, file in MODULES.items()}
BY_NAME = {f"{name}/{split}": problem_set for name, problem_set in SETS.items() for split in problem_set.splits}
GENERATED = tuple(name for name, problem_set in BY_NAME.items() if problem_set.draw)
PUBLISHED = tuple(name for name, problem_set in BY_NAME.items() if problem_set.file)
FOLDER = "QRFT_DATA"  # the environment variable that names the folder of published sets


def draw(name: str, seed: int, num_problems: int) -> pa.Table:
    """Return the first `num_problems` problems of a generated set such as "tiny-math/train", as schema.PROBLEMS."""
    problems = BY_NAME[name].draw
    assert problems is not None, f"{name} is not generated"
    return as_table(list(problems(_split(name), seed, num_problems)))


def load(name: str, *, needs_answers: bool = True) -> pa.Table:
    """Return the problems of a file (JSONL, JSON, CSV, Parquet) or of a published set, as schema.PROBLEMS.

    needs_answers: as in `read_file`. Raises DataError for a name that is neither, and for what can't be read.
    """
    return read(locate(name), name, needs_answers=needs_answers)


def read(path: Path, name: str, *, needs_answers: bool = True) -> pa.Table:
    """Return the problems of the file that `locate` gave for the name. Raises DataError for what can't be read."""
    if name not in PUBLISHED or path == Path(name):
        return read_file(path, needs_answers=needs_answers)
    table, split_of = _whole(BY_NAME[name].read, path, state(path) if path.exists() else None), BY_NAME[name].split_of
    if split_of is None:
        return table
    return table.filter(
        pa.array([split_of(row) == _split(name) for row in table["problem_id"].to_pylist()], pa.bool_())
    )


@lru_cache(maxsize=4)
def _whole(read_set: Callable[[Path], pa.Table], path: Path, state: object) -> pa.Table:
    """Read a set's file once for all that ask, such as its splits, while its state is the same."""
    return read_set(path)


def rules_for(name: str | OwnSet, rules: Rules) -> Rules:
    """Return the rules for problems. If they leave the answer format open, that of the set is filled in.

    The format of a file is gsm8k. A marker and mode "paper" leave nothing open.
    """
    if rules.mode == "paper" or rules.marker is not None or rules.answer_format is not None:
        return rules
    return rules.model_copy(update={"answer_format": _format(name) or DEFAULT_FORMAT})


def _format(name: str | OwnSet) -> str | None:
    if isinstance(name, OwnSet):
        return name.format
    return BY_NAME[name].answer_format if name in BY_NAME and not Path(name).is_file() else None


def train_split(name: str) -> str | None:
    """Return the name of the training problems of a published set; None for a set without, and for a file."""
    train = f"{name.rpartition('/')[0]}/train"
    return train if name in PUBLISHED and train in PUBLISHED else None


def locate(name: str) -> Path:
    """Return the file of a name: the file itself, or that of a published set, or the folder of its files.

    A published set is looked for in the folder that QRFT_DATA names, and otherwise downloaded once from the Hugging
    Face hub, if the hub has it. Raises DataError for a name that is neither, and for a set that can't be found.
    """
    path = Path(name)
    if path.is_file():
        return path
    if name not in PUBLISHED or (path.exists() and not path.is_dir()):
        raise _unknown(path, name)
    file, folder = _file(name), os.environ.get(FOLDER)
    if folder and (Path(folder) / file).exists():
        return Path(folder) / file
    where = f"{FOLDER} is not set" if not folder else f"{FOLDER} is {folder}, which has no {file}"
    if hub := BY_NAME[name].hub.get(_split(name)):
        way_out = f"Set {FOLDER} to a folder that holds {file}, or give the file instead of the name."
        return download(hub, name, way_out, f" ({where})")
    raise DataError(f"{name}: not on this machine ({where}). Set {FOLDER} to a folder that holds {file} as published.")


def _split(name: str) -> str:
    return name.rpartition("/")[2]


def _file(name: str) -> str:
    return (BY_NAME[name].file or "").format(split=_split(name))


def _unknown(path: Path, name: str) -> DataError:
    close = difflib.get_close_matches(name, [*PUBLISHED, *_neighbours(path)], 1)
    meant = f" Did you mean {close[0]}?" if close else ""
    if name in GENERATED:
        own = f"problems/{_split(name)}/problems.parquet"
        return DataError(f"{name}: is drawn anew by each run. Name the file of the run instead: {own}.")
    found = "is a folder" if path.is_dir() else "is neither a file nor a known set"
    if path.is_fifo():  # a run reads it twice, and any command may
        return DataError(f"{name}: is a pipe, which can be read only once. Write it to a file, and name that.")
    return DataError(
        f"{name}: {found}.{meant} Name a file (JSONL, JSON, CSV, Parquet), or one of {', '.join(PUBLISHED)}."
    )


def _neighbours(path: Path) -> list[str]:
    return [str(near) for near in path.parent.iterdir() if near != path] if path.parent.is_dir() else []
