"""`qrft sample`: k solutions per problem, into a folder of shards; and `qrft.sample`, the same as an iterator."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from qrft import grading
from qrft.commands.settings import differences, digest, named
from qrft.config.load import from_options
from qrft.data import disk
from qrft.data.problems.registry import load
from qrft.data.schema import PROBLEMS
from qrft.errors import DataError, UsageError
from qrft.grading.rules import DEFAULT_RULES
from qrft.models import prompts
from qrft.models.find import find_model
from qrft.models.gguf.quant import Quant
from qrft.sampling.api import Completion, ModelFiles, Sampler, SamplingParams, Work
from qrft.sampling.backends import registry
from qrft.sampling.backends.registry import SamplerName
from qrft.sampling.budget import SAMPLES_PER_SHARD, Rounds, Until
from qrft.sampling.requests import choose_examples, make_requests, work_of
from qrft.sampling.shards import Job, Progress, collect, stream
from qrft.sampling.tally import Tally, judges_expressions

SETTINGS = "settings.json"
BUDGET = "budget.jsonl"
NUM_PARITY_PROMPTS = 8

NO_GOAL = Until()


@dataclass(frozen=True)
class Source:
    """Which model is sampled, and by what.

    base: a built-in model, a folder, a hub name, a .gguf, or with "openai" the model's name at the server.
    adapter: a peft folder, or a .gguf. tokenizer: for a .gguf, the folder of its Hugging Face tokenizer. parity:
    compare llama.cpp's logits with transformers' once. From `server` on: for "openai" only.
    """

    base: str
    adapter: Path | None = None
    sampler: SamplerName = registry.DEFAULT
    tokenizer: Path | None = None
    quant: Quant = "f16"
    parity: bool = True
    threads: int | None = None
    server: str | None = None
    chat: bool = False
    api_key_env: str | None = None
    max_in_flight: int = 16
    requests_per_minute: float | None = None


@dataclass(frozen=True)
class Task:
    """What to sample. `examples`: worked ones for the prompts, one to spare; `problems`: schema.PROBLEMS."""

    source: Source
    problems: pa.Table
    num_samples: int
    params: SamplingParams
    prompt: str
    examples: Sequence[prompts.Solved]
    until: Until
    rules: grading.Rules
    samples_per_shard: int


def task(
    base: str,
    problems: str | Path | Sequence[str],
    num_samples: int,
    *,
    limit: int | None = None,
    prompt: str = "plain",
    few_shot: int = 0,
    examples: str | None = None,
    stop: Sequence[str] = (),
    until: Until = NO_GOAL,
    rules: grading.Rules = DEFAULT_RULES,
    samples_per_shard: int = SAMPLES_PER_SHARD,
    **options: Any,
) -> Task:
    """Checked, and with its problems read. `options`: the fields of Source and of SamplingParams.

    Raises UsageError for what can't be asked for, DataError for problems that can't be read.
    """
    names = {item.name for item in fields(Source)}
    source = Source(base, **{name: value for name, value in options.items() if name in names})
    picking = {name: value for name, value in options.items() if name not in names}
    if until.goal and not isinstance(problems, str | Path):
        raise UsageError("until: questions alone have no answers to count right ones by. Name a problem file.")
    if few_shot and not stop:
        stop = tuple(text for text in [prompts.next_example(prompt)] if text)
    params = from_options(SamplingParams, {**picking, "stop": stop})
    num_samples, until = until.max_samples or num_samples, until.model_copy(update={"max_samples": None})
    _check(source, num_samples, params, until)
    table = _table(problems)
    solved = _examples(problems, table, few_shot, examples, prompt)
    table = table if limit is None else table.slice(0, limit)
    return Task(source, table, num_samples, params, prompt, solved, until, rules, samples_per_shard)


def _check(source: Source, num_samples: int, params: SamplingParams, until: Until) -> None:
    faults = {
        f"-k {num_samples}: expected at least 1": num_samples < 1,
        f"-k {num_samples} at temperature 0: all samples of a problem would be equal. Give --temperature or -k 1": (
            num_samples > 1 and params.temperature == 0
        ),
        f"--until {until.goal} paths of -k {num_samples} samples: raise -k, which is the most": (
            until.goal is not None and until.goal > num_samples
        ),
        f"{source.base}: a .gguf needs its Hugging Face tokenizer. Name its folder with --tokenizer": (
            source.base.endswith(".gguf") and source.sampler == "llama.cpp" and source.tokenizer is None
        ),
        f"{source.base}: --sampler transformers reads no .gguf. Name the model's folder": (
            source.base.endswith(".gguf") and source.sampler == "transformers"
        ),
        "--sampler openai: asks a server. Give its address with --server, such as http://localhost:8080/v1": (
            source.sampler == "openai" and source.server is None
        ),
        f"--adapter {source.adapter}: a server has its own models. Name one of them as BASE": (
            source.sampler == "openai" and source.adapter is not None
        ),
    }
    for fault, is_there in faults.items():
        if is_there:
            raise UsageError(f"{fault}.")


def _table(problems: str | Path | Sequence[str]) -> pa.Table:
    if isinstance(problems, str | Path):
        return load(str(problems))
    if wrong := next((text for text in problems if not isinstance(text, str)), None):
        raise UsageError(f"problems: found {wrong!r} among them. Expected a file, a name, or questions as text.")
    rows = [{"problem_id": str(i), "question": text, "solution": "", "answer": ""} for i, text in enumerate(problems)]
    return pa.Table.from_pylist(rows, schema=PROBLEMS)


def _examples(
    problems: str | Path | Sequence[str], table: pa.Table, count: int, name: str | None, prompt: str
) -> list[prompts.Solved]:
    """From the problems that were named; else from GSM8K's training set for its own sets, else from the problems."""
    if name is None and str(problems).startswith("gsm8k/"):
        name = "gsm8k/train"
    place = name or (str(problems) if isinstance(problems, str | Path) else "the questions")
    return choose_examples(load(name) if name and count else table, count, prompt, place)


# --------------------------------------------------------------------------------------------------------- samples ----


def sample(
    base: str, problems: str | Path | Sequence[str], num_samples: int = 1, **options: Any
) -> Iterator[Completion]:
    """Samples of every problem, each a Completion with its `text`, in the order in which they end.

    base: a built-in model, a folder, a hub name, a .gguf. problems: a file or a name, or the questions themselves,
    which are then problem "0", "1", ... options: those of `qrft sample`, such as temperature=0.7, max_new_tokens=512,
    stop=["\\n\\n"], adapter=Path("adapter"), sampler="transformers", until=Until(correct=4). Nothing is kept on
    disk. Raises UsageError for options that can't be, and the errors of the sampler.
    """
    work = task(base, problems, num_samples, **options)
    return stream(*_plan(work, _model_dir(work.source), [num_samples], _label(work.source)))


def run(work: Task, folder: Path, progress: Progress) -> dict[str, Any]:
    """Makes what the folder lacks; returns the facts. Raises UsageError for a folder of other settings."""
    model_dir = _model_dir(work.source)
    settings = _settings(work, model_dir)
    with disk.lock(folder, f"{folder} is being written", " or name another folder with -o"):
        for leftover in folder.glob(".*.tmp"):  # of a killed process
            leftover.unlink()
        asked, model = _agree(folder, settings, work.num_samples, _label(work.source))
        job, rounds = _plan(work, model_dir, asked, model)
        facts = collect(job, rounds, folder, progress)
        if rounds.tally:
            disk.write_atomic(folder / BUDGET, "".join(json.dumps(row) + "\n" for row in rounds.by_problem()))
    return facts


def _plan(work: Task, model_dir: Path | None, asked: Sequence[int], model: str) -> tuple[Job, Rounds]:
    tokenizer = None if model_dir is None else prompts.load_tokenizer(model_dir)
    requests = make_requests(work.problems, tokenizer, work.prompt, work.examples)
    tally = Tally(work.problems, work.until, work.rules, work.source.threads) if work.until.goal else None
    prompt_ids = [request.prompt_ids for request in requests[:NUM_PARITY_PROMPTS]]
    usual = work_of(requests, asked[-1], work.params.max_new_tokens)
    eos_ids = [] if tokenizer is None else prompts.end_ids(tokenizer, work.prompt)
    job = Job(partial(_open, work.source, model_dir, prompt_ids, usual), work.params, tokenizer, model, eos_ids)
    return job, Rounds(requests, asked, tally, work.samples_per_shard)


# ---------------------------------------------------------------------------------------------------------- models ----


def _model_dir(source: Source) -> Path | None:
    """The Hugging Face folder that makes the token ids; None where a server does."""
    if source.sampler == "openai":
        return None
    if source.base.endswith(".gguf"):
        return source.tokenizer
    return find_model(source.base, is_exported=source.sampler == "llama.cpp")


def _open(source: Source, model_dir: Path | None, prompt_ids: list[list[int]], work: Work) -> Sampler:
    backend = registry.backend(source.sampler)
    files = ModelFiles(source.base, model_dir, source.adapter)
    if backend.READS == "gguf":
        assert model_dir is not None
        files = _gguf_files(source, model_dir, prompt_ids)
    settings = registry.own_settings(source.sampler, vars(source))
    return backend.open_model(files, settings, work=work, n_threads=source.threads)


def _gguf_files(source: Source, model_dir: Path, prompt_ids: list[list[int]]) -> ModelFiles:
    """Make the files that are lacking, and compare them with transformers once."""
    from qrft.models.gguf.prepare import check_once, is_gguf, prepare_adapter, prepare_base

    base = prepare_base(source.base, source.tokenizer, source.quant, n_threads=source.threads)
    adapter = source.adapter and prepare_adapter(source.adapter, source.base, source.tokenizer)
    if source.parity and any(model_dir.glob("*.safetensors")):
        is_ready = source.adapter is None or is_gguf(str(source.adapter))  # transformers has no part in such an adapter
        pair = (None, None) if is_ready else (source.adapter, adapter)
        check_once(model_dir, base, *pair, prompt_ids, n_threads=source.threads)
    return ModelFiles(source.base, model_dir, source.adapter, base, adapter)


def _label(source: Source) -> str:
    """What the samples say of their model."""
    names = [source.base, *([str(source.adapter)] if source.adapter else [])]
    return "+".join(Path(name).name for name in names)


# -------------------------------------------------------------------------------------------------------- settings ----


def _settings(work: Task, model_dir: Path | None) -> dict[str, Any]:
    """Everything that decides the samples, but for their number."""
    source = work.source
    settings: dict[str, Any] = {
        "version": 1,
        "sampler": source.sampler,
        "base": source.base if model_dir is None else named(source.base, _base_file(source, model_dir)),
        "adapter": source.adapter and named(str(source.adapter), source.adapter),
        "prompt": work.prompt,
        "few_shot": max(0, len(work.examples) - 1),
        "examples": digest(work.examples),
        "problems": digest(work.problems.to_pylist()),
        "num_problems": work.problems.num_rows,
        **work.params.model_dump(),
        "until": work.until.model_dump(exclude_none=True) or None,
        "samples_per_shard": work.samples_per_shard,
    }
    if source.base.endswith(".gguf") and source.tokenizer:
        settings["tokenizer"] = named(str(source.tokenizer), source.tokenizer)
    elif source.sampler == "llama.cpp":
        settings["quant"] = source.quant
    if source.sampler == "openai":
        settings["chat"] = source.chat
    if work.until.goal:
        settings["rules"] = {**work.rules.model_dump(), "judges_expressions": judges_expressions(work.rules)}
    return json.loads(json.dumps(settings))  # type: ignore[no-any-return] # as they come back from the file


def _base_file(source: Source, model_dir: Path) -> Path:
    return Path(source.base).expanduser() if source.base.endswith(".gguf") else model_dir


def _agree(folder: Path, settings: Mapping[str, Any], num_samples: int, model: str) -> tuple[list[int], str]:
    """The k's asked for so far, this one included, and the samples' model. Raises UsageError when settings differ."""
    path, asked = folder / SETTINGS, list[int]()
    if any(folder.glob("*.parquet")):  # settings without samples bind no one
        kept = _read_settings(path)
        asked, model = kept["num_samples"], kept["model"]
        _compare(folder, kept["settings"], settings, asked[-1], num_samples)
    elif not path.exists() and any(not file.name.startswith(".") for file in folder.iterdir()):
        raise UsageError(f"{folder}: is there, and not of this command. Name another folder with -o.")
    if num_samples not in asked:
        asked = [*asked, num_samples]
        disk.write_atomic(path, json.dumps({"model": model, "num_samples": asked, "settings": settings}, indent=1))
    return asked, model


def _compare(folder: Path, kept: Mapping[str, Any], now: Mapping[str, Any], before: int, num_samples: int) -> None:
    if found := list(differences(kept, now)):
        raise UsageError(
            f"{folder}: was made with other settings: {'; '.join(found)}. Give those, or name another folder with -o."
        )
    if num_samples < before:
        raise UsageError(
            f"{folder}: was made with -k {before}, now {num_samples}. It can only be raised: "
            f"give -k {before} or more, or name another folder with -o."
        )


def _read_settings(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UsageError(f"{path.parent}: holds Parquet files, but no {SETTINGS}. Name another folder with -o.")
    try:
        kept: dict[str, Any] = json.loads(path.read_bytes())
        if not isinstance(kept["settings"], dict) or not isinstance(kept["model"], str) or not kept["num_samples"]:
            raise ValueError("not a file of settings")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path}: can't be read ({error}). Name another folder with -o, or remove this one.") from error
    return kept
