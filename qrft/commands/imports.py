"""`qrft import`: the files that the paper's repository (OFA-Sys/gsm8k-ScRel) released or writes, as qrft's own tables.

data/rft/*.jsonl         {"query": ..., "response": ...} a line: a training set, gold solutions and sampled paths
raw_generation_*.json    [[prompt, completion], ...] a line: samples; the name tells the seed, the folder the model

Neither names its problems, so they are found by their questions. `import.json` keeps where everything came from.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from qrft.data import jsonl
from qrft.data.disk import check_place, disk_errors, make_folder, publish, write_atomic
from qrft.data.problems.registry import load
from qrft.data.schema import SAMPLES, TRAINING
from qrft.errors import DataError, UsageError
from qrft.models.find import fingerprint
from qrft.progress import Progress

EXPECTED = 'Expected {"query": ..., "response": ...} (a training set) or [[prompt, completion], ...] (samples).'
SEED = re.compile(r"raw_generation_[\d.]+(?:_|sampled_on_[a-z]+_seed_)(\d+)")
# Questions are compared by letters and digits: decoding a prompt can move the spaces about its punctuation.
NO_LETTERS = re.compile(r"\W+")
TAIL = 200  # letters and digits; prompts lost their beginning where they were longer than 256 tokens


@dataclass(frozen=True)
class File:
    """What import.json says of a file."""

    name: str
    blake2b: str
    kind: str  # "training" or "samples"
    model: str
    seed: int | None
    num_rows: int = 0


@dataclass
class Imported:
    """The rows of either table, each with the row of its problem, and what was left out."""

    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    places: dict[tuple[Any, ...], str] = field(default_factory=dict)  # the file of each sample


def run(paths: Sequence[Path], problems: str, out: Path, model: str | None, progress: Progress) -> dict[str, Any]:
    """Write training.parquet and training.jsonl, or samples.parquet, and import.json into the new folder `out`.

    model: the name of who sampled; None takes a training set's file name, and the folder's name of samples. Returns
    the facts. Raises DataError, with the file and the line, for what can't be read or is of no known problem.
    """
    if check_place(out).exists():
        raise UsageError(f"{out}: already exists. Name a new folder with -o.")
    kinds = {path: kind_of(path) for path in paths}
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"{path.name} ({kind})" for path, kind in kinds.items())
        raise UsageError(f"found training sets and samples together: {listed}. Import them separately.")
    table = load(problems)
    questions = Questions(table["question"].to_pylist(), problems)
    kind, imported, files = kinds[paths[0]], Imported(), []
    for number, path in enumerate(sorted(paths, key=_in_order), 1):
        file = _file(path, kind, model)
        before = len(imported.rows)
        (_add_training if kind == "training" else _add_samples)(imported, path, file, questions, table)
        files.append(File(**{**asdict(file), "num_rows": len(imported.rows) - before}))
        progress(number, len(paths), f"{len(imported.rows):,} rows")
    facts = _facts(imported, kind, table.num_rows)
    _write(
        out, kind, _table(imported, kind), {"problems": problems, "files": [asdict(file) for file in files], **facts}
    )
    return facts


def kind_of(path: Path) -> str:
    """Return "training" or "samples", by the first line. Raises DataError for neither."""
    place, row = next(jsonl.values(path, EXPECTED), (str(path), None))
    if isinstance(row, dict) and {"query", "response"} <= row.keys():
        return "training"
    if isinstance(row, list):
        return "samples"
    found = f"the keys {', '.join(row) or '(none)'}" if isinstance(row, dict) else "nothing" if row is None else row
    raise DataError(f"{place}: found {str(found)[:80]}. {EXPECTED}")


def _in_order(path: Path) -> tuple[str, int, str]:
    """Sort by folder and seed: 2 before 10."""
    return str(path.parent), _seed(path) or 0, path.name


def _seed(path: Path) -> int | None:
    match = SEED.match(path.name)
    return int(match[1]) if match else None


def _file(path: Path, kind: str, model: str | None) -> File:
    default = path.name.partition(".jsonl")[0] if kind == "training" else path.absolute().parent.name
    seed = _seed(path) if kind == "samples" else None
    return File(path.name, fingerprint(path), kind, model or default or path.stem, seed)


class Questions:
    """Finds a problem by its question, or by a prompt that ends in it."""

    def __init__(self, questions: Sequence[str], name: str) -> None:
        self._name = name
        self._rows: dict[str, int] = {}
        tails: dict[str, int | None] = {}
        for row, question in enumerate(questions):
            text = NO_LETTERS.sub("", question)
            self._rows.setdefault(text, row)
            tails[text[-TAIL:]] = None if text[-TAIL:] in tails else row
        self._tails = {tail: row for tail, row in tails.items() if row is not None}

    def row(self, text: str, place: str) -> int:
        """Return the row of a question. Raises DataError when no problem has it."""
        question = text.rpartition("### Instruction:")[2].partition("### Response:")[0]
        letters = NO_LETTERS.sub("", question)
        row = self._rows.get(letters, self._tails.get(letters[-TAIL:]))
        if row is None:
            raise DataError(
                f"{place}: the question {question.strip()[:60]!r} is not in {self._name}. "
                "Name the problems that the file belongs to with --problems."
            )
        return row


# --------------------------------------------------------------------------------------------------- the two kinds ----


def _add_training(imported: Imported, path: Path, file: File, questions: Questions, problems: pa.Table) -> None:
    """Add the rows of a training set. The first with its problem's gold solution is gold, once for all files."""
    solutions, ids = problems["solution"].to_pylist(), problems["problem_id"].to_pylist()
    has_gold: set[int] = set()
    count: Counter[int] = Counter()
    for place, row in jsonl.values(path, EXPECTED):
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("query", "response")):
            raise DataError(f'{place}: found {str(row)[:60]}. Expected texts under "query" and "response".')
        problem = questions.row(row["query"], place)
        values = {"problem_id": ids[problem], "question": row["query"], "completion": row["response"]}
        if row["response"].strip() == solutions[problem] and problem not in has_gold:
            has_gold.add(problem)
            if ("gold", problem) in imported.places:
                imported.left_out["num_gold_twice"] += 1
                continue
            imported.places["gold", problem] = path.name
            imported.rows.append((problem, {**values, "source": "gold", "sample_index": None}))
        else:
            imported.rows.append((problem, {**values, "source": file.model, "sample_index": count[problem]}))
            count[problem] += 1


def _add_samples(imported: Imported, path: Path, file: File, questions: Questions, problems: pa.Table) -> None:
    """Add samples. The repository's sampler repeats the last hundred problems at a file's end; what comes a second time
    is skipped, as its own reader does."""
    ids = problems["problem_id"].to_pylist()
    seen: set[int] = set()
    for place, row in jsonl.values(path, EXPECTED):
        if not isinstance(row, list) or not row or not all(_is_pair(pair) for pair in row):
            raise DataError(f"{place}: found {str(row)[:60]}. Expected [[prompt, completion], ...].")
        problem = questions.row(row[0][0], place)
        if problem in seen:
            imported.left_out["num_repeated"] += len(row)
            continue
        seen.add(problem)
        for number, (_, completion) in enumerate(row):
            index = (file.seed or 0) * len(row) + number
            other = imported.places.setdefault((file.model, problem, index), str(path))
            if other != str(path):
                raise DataError(
                    f"{place}: sample {index} of this problem by {file.model} is in {other} already. "
                    "Import the files of one model and temperature together, others apart with --model."
                )
            values = {"problem_id": ids[problem], "model": file.model, "sample_index": index, "completion": completion}
            imported.rows.append((problem, values))


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)


def _facts(imported: Imported, kind: str, num_problems: int) -> dict[str, Any]:
    rows = [row for _, row in imported.rows]
    facts: dict[str, Any] = {
        "kind": kind,
        "num_rows": len(rows),
        "num_problems": num_problems,
        "num_problems_with_rows": len({problem for problem, _ in imported.rows}),
    }
    if kind == "training":
        facts["num_gold"] = sum(row["source"] == "gold" for row in rows)
    names = Counter(row.get("source", row.get("model")) for row in rows)
    return {**facts, "rows_by_source": dict(names.most_common()), **imported.left_out}


def _table(imported: Imported, kind: str) -> pa.Table:
    """Return the rows in the order of the problems, their gold solutions first, and then in the order of the files."""
    order = sorted(imported.rows, key=lambda row: (row[0], row[1].get("source") != "gold"))
    return pa.Table.from_pylist([row for _, row in order], schema=TRAINING if kind == "training" else SAMPLES)


def _write(out: Path, kind: str, table: pa.Table, card: dict[str, Any]) -> None:
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}.tmp")
    with disk_errors(out.parent):
        try:
            make_folder(partial)
            pq.write_table(table, partial / f"{kind}.parquet")
            if kind == "training":
                lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())
                write_atomic(partial / "training.jsonl", "".join(lines))
            write_atomic(partial / "import.json", json.dumps(card, indent=1) + "\n")
            publish(partial, out)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
