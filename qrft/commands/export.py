"""`qrft export`: a trained model as files that other programs open, which are proved to answer as it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from qrft.commands import hub, shipped
from qrft.commands.answers import WIDE, Asking, fitting_sampler
from qrft.commands.proof import Proof, Question, prove_folder, prove_gguf
from qrft.commands.shipped import Prompting, Target
from qrft.commands.shipped_card import write_card
from qrft.commands.trained import Trained, find_trained
from qrft.data.disk import (
    cache_folder,
    check_place,
    disk_errors,
    make_folder,
    remove_temporaries,
    waiting_lock,
    whole_folder,
)
from qrft.data.problems.registry import draw, load
from qrft.errors import UsageError
from qrft.models import prompts
from qrft.models.gguf.header import read_header
from qrft.models.json_file import read_json
from qrft.models.loading import load_tokenizer
from qrft.progress import Progress
from qrft.sampling.api import SamplingParams

NUM_QUESTIONS = 20
MAX_TEXTS = 10_000  # lines whose token ids are compared
DRAWN = "tiny-math/test"  # questions for an adapter, which has no problems of its own
Bar = Callable[[str], AbstractContextManager[Progress]]
# What lm-evaluation-harness calls the sets that qrft knows too.
TASKS = {
    "gsm8k": "gsm8k",
    "math-500": "hendrycks_math500",
}


@dataclass(frozen=True)
class Order:
    """What to export where. `problems`: a file or a set's name to ask, None for the run's own. `max_new_tokens`:
    of an answer, None for that of the evaluation. `push`: a hub name."""

    folder: Path
    wanted: Target
    output: Path
    phase: str | None = None
    base: str | None = None
    problems: str | None = None
    num_questions: int = NUM_QUESTIONS
    max_new_tokens: int | None = None
    push: str | None = None
    is_private: bool = False
    is_dry: bool = False
    num_threads: int | None = None


def run(order: Order, bar: Bar) -> dict[str, Any]:
    """Write the files into a new folder, which appears when they have answered as the model did; return the facts.

    Raises UsageError, ModelError, StoreError, DataError; where one is raised before the folder is there, nothing is.
    """
    _check_output(order.output)
    (model,) = find_trained(order.folder, (order.phase,) if order.phase else (), order.base)
    _check_kind(model, order.wanted)
    if order.push and not order.is_dry:
        hub.check_access(order.push)
    is_gguf = order.wanted.kind == "gguf"
    needs_base = is_gguf and (model.gguf is None or read_header(model.gguf).precision not in WIDE)
    how = shipped.prompting(model)
    questions, texts = _questions(model, order)
    with _alone(order.output):
        shipped.check_room(model, order.wanted, order.output, needs_base, cache_folder())
        asked, params = _asked(model, how, questions, order, bar)
        with whole_folder(order.output) as folder:
            file = _write(model, order, how, folder, bar)
            proof = _proved(model, order, how, asked, texts, params, folder, file, bar)
            write_card(model, order.wanted, how, proof, file.name if file else None, order.push, folder)
    facts = _facts(model, order, file, proof)
    if order.push:
        facts["push"] = hub.push(order.output, order.push, is_private=order.is_private, is_dry=order.is_dry)
    return facts


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Keep other processes from writing the output, and remove what killed ones left beside it. Raises StoreError where
    nothing can be written, before any work."""
    parent, lock = output.absolute().parent, output.with_name(f".{output.name}.lock")
    make_folder(parent)
    with disk_errors(parent), waiting_lock(lock, f"{output} is being written"):
        _check_output(output)
        remove_temporaries(output)
        yield


def _check_output(output: Path) -> None:
    check_place(output)
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise UsageError(f"{output}: is a file. Name a new folder with -o.")
    if output.is_dir() and any(output.iterdir()):
        raise UsageError(f"{output}: already exists and is not empty. Name a new folder with -o.")


def _check_kind(model: Trained, wanted: Target) -> None:
    if wanted.kind == "adapter" and model.adapter is None:
        why = "is the base model" if model.phase == "base" else "was trained in every weight"
        raise UsageError(f"--to adapter: {model.name} {why}, so it has no adapter. Give --to merged.")
    if wanted.kind == "gguf" and fitting_sampler(model) != "llama.cpp":
        raise UsageError(f"--to gguf: qrft makes no GGUF file of this architecture ({model.base}). Give --to merged.")


def _questions(model: Trained, order: Order) -> tuple[list[str], list[str]]:
    """Return the questions to ask, and lines of text whose token ids are compared."""
    if order.problems:
        tables = [load(order.problems)]
    else:
        tables = [pq.read_table(path) for path in model.problems] or [draw(DRAWN, 0, order.num_questions)]
    texts = [text for table in tables for name in ("question", "solution") for text in table[name].to_pylist()]
    lines = dict.fromkeys(line for text in texts for line in text.splitlines(keepends=True) if line.strip())
    return tables[0]["question"].to_pylist()[: order.num_questions], list(lines)[:MAX_TEXTS]


def _asked(
    model: Trained, how: Prompting, questions: list[str], order: Order, bar: Bar
) -> tuple[list[Question], SamplingParams]:
    """Let the trained model answer: by llama.cpp, unmerged, what becomes a GGUF file; by transformers the rest."""
    ids = [prompts.prompt_ids(how.tokenizer, question, model.wording) for question in questions]
    room = int(read_json(model.folder / "config.json").get("max_position_embeddings", 2**31)) - max(map(len, ids))
    longest = order.max_new_tokens or model.max_new_tokens
    params = SamplingParams(temperature=0, max_new_tokens=max(1, min(longest, room)))
    sampler = "llama.cpp" if order.wanted.kind == "gguf" else "transformers"
    asking = Asking(model, sampler=sampler, is_wide=True, num_threads=order.num_threads)
    with bar("asking the model as it was trained") as progress, asking:
        answers = asking.ask(questions, params, progress=progress)
    found = zip(questions, ids, answers, strict=True)
    return [Question(text, prompt, answer[0].token_ids) for text, prompt, answer in found], params


def _write(model: Trained, order: Order, how: Prompting, folder: Path, bar: Bar) -> Path | None:
    with bar("writing the files") as progress:
        progress(0, 1, "")
        file = None
        if order.wanted.kind == "gguf":
            file = shipped.write_gguf(model, order.wanted, how, folder, order.num_threads)
        elif order.wanted.kind == "merged":
            shipped.write_merged(model, how, folder)
        else:
            shipped.write_adapter(model, how, folder)
        progress(1, 1, "")
    return file


def _proved(
    model: Trained,
    order: Order,
    how: Prompting,
    asked: list[Question],
    texts: list[str],
    params: SamplingParams,
    folder: Path,
    file: Path | None,
    bar: Bar,
) -> Proof:
    with bar("asking what was exported") as progress:
        if file is not None:
            return prove_gguf(file, asked, params, how.tokenizer, texts, progress, order.num_threads)
        load_tokenizer(folder)
        return prove_folder(folder, model.base_dir, asked, params, how.ends, progress, order.num_threads)


def _facts(model: Trained, order: Order, file: Path | None, proof: Proof) -> dict[str, Any]:
    sizes = {path.name: path.stat().st_size for path in sorted(order.output.iterdir())}
    return {
        "model": model.name,
        "phase": model.phase,
        "base": model.base,
        "kind": order.wanted.kind,
        "quant": order.wanted.quant,
        "prompt": model.wording.prompt,
        "output": str(order.output),
        "file": file and file.name,
        "files": sizes,
        "proof": proof.as_facts(),
        "lm_eval": lm_eval(model, order, file),
        "next": _next(model, order, file),
    }


def lm_eval(model: Trained, order: Order, file: Path | None) -> str:
    """Return the command that measures what was exported, by lm-evaluation-harness."""
    task = TASKS.get(str(model.test_set).partition("/")[0], "gsm8k")
    last = f"--tasks {task} --num_fewshot 0 --apply_chat_template"
    if file is not None:
        where = "base_url=http://127.0.0.1:8080/v1/chat/completions"
        return f"lm_eval --model local-chat-completions --model_args model={model.name},{where} {last}"
    place = order.push or str(order.output)
    args = f"pretrained={place}"
    if order.wanted.kind == "adapter":
        args = f"pretrained={model.base},peft={place},tokenizer={place}"
    return f"lm_eval --model hf --model_args {args} {last} --batch_size auto"


def _next(model: Trained, order: Order, file: Path | None) -> list[str]:
    """Return the commands that a person may go on with."""
    if file is None:
        return []
    return [
        f"llama-server -m {order.output / file.name} --jinja",
        f"ollama create {model.name} -f {order.output / shipped.MODELFILE}",
    ]
