"""Problem sets by file or by name."""

from __future__ import annotations

import difflib
import json
import logging
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from qrft.config.messages import BUILTIN_PROBLEMS
from qrft.data.files import reason
from qrft.data.problems import MARKER, read_jsonl, read_parquet
from qrft.data.schema import PROBLEMS
from qrft.errors import DataError

FOLDER = "QRFT_DATA"  # the environment variable that names the folder of published sets


def load(name: str) -> pa.Table:
    """The problems of a file (JSONL or Parquet) or of a published set such as "gsm8k/test", as schema.PROBLEMS.

    Raises DataError for a name that is neither, and for what can't be read.
    """
    return read(locate(name), name)


def locate(name: str) -> Path:
    """The file of a name: the file itself, or where a published set lies.

    That is the folder that QRFT_DATA names, as published; GSM8K is else downloaded from the Hugging Face hub once.
    Raises DataError.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.exists() or name not in PUBLISHED:
        raise _unknown(path, name)
    file, folder = PUBLISHED[name][0], os.environ.get(FOLDER)
    if folder and (Path(folder) / file).is_file():
        return Path(folder) / file
    where = f"{FOLDER} is not set" if not folder else f"{FOLDER} is {folder}, without {file}"
    if name.startswith("gsm8k/"):
        return _download(name, where)
    raise DataError(f"{name}: not here ({where}). Set {FOLDER} to a folder that holds {file} as it was published.")


def read(path: Path, name: str) -> pa.Table:
    """The problems of the file that `locate` gave for the name. Raises DataError for what can't be read."""
    if path.suffix == ".parquet":
        return read_parquet(path)
    return PUBLISHED[name][1](path) if name in PUBLISHED and path != Path(name) else read_jsonl(path)


def _unknown(path: Path, name: str) -> DataError:
    close = difflib.get_close_matches(name, [*PUBLISHED, *_neighbours(path)], 1)
    meant = f" Did you mean {close[0]}?" if close else ""
    if name in BUILTIN_PROBLEMS:
        split = name.partition("/")[2]
        return DataError(f"{name}: is made anew by each run. Name the run's own: problems/{split}/problems.parquet.")
    found = "is a folder" if path.is_dir() else "is neither a file nor a set that is known"
    return DataError(f"{name}: {found}.{meant} Name a JSONL or Parquet file, or one of {', '.join(PUBLISHED)}.")


def _neighbours(path: Path) -> list[str]:
    return [str(near) for near in path.parent.iterdir() if near != path] if path.parent.is_dir() else []


def _download(name: str, where: str) -> Path:
    from huggingface_hub import hf_hub_download

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries say less than the error below
    file = f"main/{name.partition('/')[2]}-00000-of-00001.parquet"
    try:
        return Path(hf_hub_download("openai/gsm8k", file, repo_type="dataset", etag_timeout=10))
    except Exception as error:  # no network, no permission: each of the library's layers has its own
        raise DataError(
            f"{name}: not here ({where}), and the Hugging Face hub did not give {file} of openai/gsm8k "
            f"({reason(error).rstrip('.')}). "
            f"Set {FOLDER} to a folder that holds {PUBLISHED[name][0]}, or give the file in place of the name."
        ) from error


# ---------------------------------------------------------------------------------------------- published forms ----


def read_svamp(path: Path) -> pa.Table:
    """SVAMP as published: a JSON list with ID, Body, Question and a float Answer."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return _table([(row["ID"], row["Body"], row["Question"], str(row["Answer"]).removesuffix(".0")) for row in rows])


def read_asdiv(path: Path) -> pa.Table:
    """ASDiv as published: XML; an answer is "9 (apples)", and the unit is left out."""
    problems = ElementTree.parse(path).getroot().iter("Problem")
    rows = [(row.get("ID", ""), *(row.findtext(key, "") for key in ("Body", "Question", "Answer"))) for row in problems]
    return _table([(name, body, question, answer.partition("(")[0]) for name, body, question, answer in rows])


def _table(rows: list[tuple[str, str, str, str]]) -> pa.Table:
    """From (id, body, question, answer); the body often lacks its full stop."""
    named = []
    for problem_id, body, question, answer in (tuple(text.strip() for text in row) for row in rows):
        whole = f"{body}{'' if body.endswith(('.', '?', '!', ',')) else '.'} {question}"
        solution = f"{MARKER} {answer.strip()}"
        named.append({"problem_id": problem_id, "question": whole, "solution": solution, "answer": answer.strip()})
    return pa.Table.from_pylist(named, schema=PROBLEMS)


PUBLISHED: dict[str, tuple[str, Callable[[Path], pa.Table]]] = {
    "gsm8k/train": ("gsm8k/train.jsonl", read_jsonl),
    "gsm8k/test": ("gsm8k/test.jsonl", read_jsonl),
    "svamp/test": ("svamp/SVAMP.json", read_svamp),
    "asdiv/test": ("asdiv/ASDiv.xml", read_asdiv),
}
