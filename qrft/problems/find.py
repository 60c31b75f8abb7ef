"""Problem sets by file or by name."""

from __future__ import annotations

import difflib
import json
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from qrft.errors import DataError
from qrft.files import reason
from qrft.problems import MARKER, read_jsonl, read_parquet
from qrft.schema import PROBLEMS

FOLDER = "QRFT_DATA"  # the environment variable that names the folder of published sets


def load(name: str) -> pa.Table:
    """The problems of a file (JSONL or Parquet) or of a published set such as "gsm8k/test", as schema.PROBLEMS.

    Published sets lie in the folder that QRFT_DATA names, as published; GSM8K is else downloaded from the Hugging
    Face hub once. Raises DataError for a name that is neither, and for what can't be read.
    """
    path = Path(name)
    if path.exists() or name not in PUBLISHED:
        return _read(path, name)
    file, read = PUBLISHED[name]
    folder = os.environ.get(FOLDER)
    if folder and (Path(folder) / file).is_file():
        return read(Path(folder) / file)
    return _download(name) if name.startswith("gsm8k/") else _missing(name, file, folder)


def _read(path: Path, name: str) -> pa.Table:
    if path.is_file():
        return read_parquet(path) if path.suffix == ".parquet" else read_jsonl(path)
    close = difflib.get_close_matches(name, [*PUBLISHED, *_neighbours(path)], 1)
    meant = f" Did you mean {close[0]}?" if close else ""
    found = "is a folder" if path.is_dir() else "is neither a file nor a set that is known"
    raise DataError(f"{name}: {found}.{meant} Name a JSONL or Parquet file, or one of {', '.join(PUBLISHED)}.")


def _neighbours(path: Path) -> list[str]:
    return [str(near) for near in path.parent.iterdir()] if path.parent.is_dir() else []


def _missing(name: str, file: str, folder: str | None) -> pa.Table:
    where = f"{FOLDER} is not set" if not folder else f"{FOLDER} is {folder}, without {file}"
    raise DataError(f"{name}: not here ({where}). Set {FOLDER} to a folder that holds {file} as it was published.")


def _download(name: str) -> pa.Table:
    from huggingface_hub import hf_hub_download

    file = f"main/{name.partition('/')[2]}-00000-of-00001.parquet"
    try:
        path = hf_hub_download("openai/gsm8k", file, repo_type="dataset", etag_timeout=10)
    except Exception as error:  # no network, no permission: each of the library's layers has its own
        raise DataError(
            f"{name}: the Hugging Face hub did not give {file} of openai/gsm8k ({reason(error)}). "
            f"Set {FOLDER} to a folder that holds {PUBLISHED[name][0]}, or give the file in place of the name."
        ) from error
    return read_parquet(Path(path))


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
