"""The paper's public script beside qrft: the same samples through both.

The script has no licence, so it is neither copied nor committed: get OFA-Sys/gsm8k-ScRel from GitHub, and name its
collect_rejection_sampling.py. It needs the packages editdistance and tqdm.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType


def load(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("paper_script", script)
    if spec is None or spec.loader is None or not script.is_file():
        raise SystemExit(f"{script}: not found. Name the collect_rejection_sampling.py of OFA-Sys/gsm8k-ScRel.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_inputs(folder: Path, problems: list[dict[str, str]], samples: Iterable[tuple[int, int, str]]) -> int:
    """Write the samples (problem, index, completion) for the script, a file per index; return how many files."""
    columns: dict[int, dict[int, str]] = {}
    for problem, index, completion in samples:
        columns.setdefault(index, {})[problem] = completion
    for index, column in columns.items():
        with (folder / f"raw_generation_0.7_{index}.json").open("w", encoding="utf-8") as file:
            file.writelines(
                json.dumps([[problems[i]["question"], column.get(i, "")]]) + "\n" for i in range(len(problems))
            )
    with (folder / "train_use.jsonl").open("w", encoding="utf-8") as file:
        for problem in problems:
            file.write(json.dumps({"query": problem["question"], "response": problem["answer"]}) + "\n")
    return len(columns)


def collect(script: ModuleType, folder: Path, num_files: int) -> None:
    """Run the script as it is: from the files of `write_inputs` to its training sets."""
    script.TRAIN_FILE = str(folder / "train_use.jsonl")
    with contextlib.redirect_stdout(io.StringIO()):
        script.collect(str(folder), num_files)


def kept(folder: Path, num_files: int) -> Iterator[tuple[str, str]]:
    """Yield (question, text) of each row of its training set, in order; the gold rows are among them."""
    path = folder / f"equation_different_pass_query_{num_files}_0.7_sft.jsonl.v2.farest"
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield row["query"], row["response"]


def grade(script: ModuleType, texts: Iterable[str]) -> int:
    """Run its answer extraction and equation checks on each text; return how many texts pass the checks."""
    num_sound = 0
    with open(os.devnull, "w") as nothing, contextlib.redirect_stderr(nothing):  # eval() warns of odd literals
        for text in texts:
            script.extract_answer(text)
            equations = script.re.findall(r"<<([^>]*)>>", text)
            num_sound += all([script.check_equation(equation) for equation in equations])
    return num_sound
