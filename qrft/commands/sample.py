"""`qrft sample`: k solutions per problem, into a folder of shards; and `qrft.sample`, the same as an iterator."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from qrft.commands.sample_folder import agree, refuse_foreign
from qrft.commands.settings import digest, named
from qrft.config.options import from_options
from qrft.config.section import Section
from qrft.data import disk
from qrft.data.problems.registry import load, rules_for, train_split
from qrft.data.schema import PROBLEMS
from qrft.errors import UsageError
from qrft.grading.latex import judges_expressions
from qrft.grading.rules import DEFAULT_RULES, Rules
from qrft.grading.traces import TRACES
from qrft.models import prompts
from qrft.models.find import find_model
from qrft.models.gguf.quant import Comparison, Gguf, Quant
from qrft.models.wording import Wording
from qrft.progress import Progress
from qrft.sampling.api import Completion, ModelFiles, Request, SamplingParams
from qrft.sampling.backends import registry
from qrft.sampling.backends.registry import SamplerName
from qrft.sampling.budget import NO_GOAL, SAMPLES_PER_SHARD, Until
from qrft.sampling.requests import choose_examples
from qrft.sampling.shards import WHOLE, Part, collect, remove_temporaries, stream, write_budget
from qrft.sampling.spec import SampledModel, SampleSpec, begin

NUM_PARITY_PROMPTS = 8
NOT_COMPARED = "llama.cpp was not compared with transformers (parity off)"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelChoice:
    """Which model is sampled, and by what.

    base: a known name, a folder, a hub name, a .gguf, or with "openai" the model's name at the server.
    adapter: a peft folder, or a .gguf. tokenizer: for a .gguf, the folder of its Hugging Face tokenizer. parity:
    whether llama.cpp's logits are compared with transformers'. settings: the sampler's own.
    """

    base: str
    sampler: SamplerName
    settings: Section
    adapter: Path | None = None
    tokenizer: Path | None = None
    quant: Quant = "f16"
    parity: Comparison = "once"
    threads: int | None = None

    @property
    def reads(self) -> registry.Reads:
        return registry.backend(self.sampler).READS

    @property
    def is_ready_gguf(self) -> bool:
        return self.base.endswith(".gguf")

    @property
    def label(self) -> str:
        """What the samples say of their model."""
        names = [self.base, *([str(self.adapter)] if self.adapter else [])]
        return "+".join(Path(name).name for name in names)


def prepare(
    base: str,
    problems: str | Path | Sequence[str],
    num_samples: int,
    *,
    sampler: SamplerName = registry.DEFAULT,
    limit: int | None = None,
    prompt: str = "plain",
    system: str | None = None,
    chat_template_args: Mapping[str, Any] | None = None,
    few_shot: int = 0,
    examples: str | None = None,
    stop: Sequence[str] = (),
    until: Until = NO_GOAL,
    rules: Rules = DEFAULT_RULES,
    samples_per_shard: int = SAMPLES_PER_SHARD,
    **options: Any,
) -> tuple[ModelChoice, SampleSpec]:
    """Check what is asked for, and read the problems.

    `options`: the fields of ModelChoice, of the sampler's own settings and of SamplingParams. Raises UsageError for
    what can't be asked for, DataError for problems that can't be read.
    """
    own = _own_settings(sampler, options)
    wording, server_system = _wording(own, prompt, system, chat_template_args)
    from_options(Gguf, {key: options[key] for key in ("quant", "parity") if key in options})  # checks them
    names = {item.name for item in fields(ModelChoice)}
    choice = ModelChoice(base, sampler, own, **{name: options.pop(name) for name in names & options.keys()})
    if until.goal and not isinstance(problems, str | Path):
        raise UsageError("until: questions alone have no gold answers, so no sample can be right. Name a problem file.")
    _check_is_read(choice, few_shot, examples, until, rules)
    if few_shot and not stop:
        stop = tuple(text for text in [prompts.next_example(wording)] if text)
    params = from_options(SamplingParams, {**options, "stop": stop})
    num_samples, until = until.max_samples or num_samples, until.model_copy(update={"max_samples": None})
    _check(choice, num_samples, params, until)
    table = _table(problems, needs_answers=bool(until.goal))
    solved = _examples(problems, table, few_shot, examples, wording)
    table = table if limit is None else table.slice(0, limit)
    rules = rules_for(str(problems), rules)
    spec = SampleSpec(
        table, num_samples, params, wording, solved, server_system, until, rules, samples_per_shard=samples_per_shard
    )
    return choice, spec


def _wording(
    own: Section, prompt: str, system: str | None, args: Mapping[str, Any] | None
) -> tuple[Wording, str | None]:
    """Return how prompts are worded, and what a server with a chat template of its own is told before each."""
    has_template = bool(getattr(own, "chat", False))
    if has_template and args:
        raise UsageError(
            "--chat-template-args: with --chat the server applies its own template. Give the server "
            "--extra-body '{\"chat_template_kwargs\": {...}}' if it knows that field, or leave it out."
        )
    given = {"prompt": prompt, "system": None if has_template else system, "chat_template_args": args}
    return from_options(Wording, given), system if has_template else None


def _own_settings(sampler: SamplerName, options: dict[str, Any]) -> Section:
    """Take the sampler's own settings out of the options. Raises UsageError for one that only another sampler reads."""
    for key in registry.unread_keys(sampler, options):
        readers = " or ".join(registry.readers(key))
        raise UsageError(f"{_option(key)}: has no effect without --sampler {readers}. Leave it out, or add that.")
    given = {key: options.pop(key) for key in registry.all_keys() & options.keys()}
    settings = from_options(registry.backend(sampler).Settings, registry.own_values(sampler, given))
    for key, description in registry.missing_keys(sampler, settings):
        raise UsageError(f"--sampler {sampler}: {_option(key)} is missing. Give it: {description}")
    return settings


def _check_is_read(choice: ModelChoice, few_shot: int, examples: str | None, until: Until, rules: Rules) -> None:
    """Refuse an option that has no effect without another one: not what was asked for would be sampled."""
    # The tags of traces always count: they say where stop texts do not.
    stops = rules.model_copy(update={"trace_tags": DEFAULT_RULES.trace_tags, "trace_is_open": False})
    rule = next((key for key, value in stops if value != getattr(DEFAULT_RULES, key)), "rules")
    unread = {
        f"{_option(rule)}: has no effect without --until. Leave it out, or add --until": (
            stops != DEFAULT_RULES and not until.goal
        ),
        "--examples: has no effect without --few-shot. Leave it out, or add --few-shot": (
            examples is not None and not few_shot
        ),
        "--tokenizer: has no effect unless BASE is a .gguf. Leave it out, or name a .gguf": (
            choice.tokenizer is not None and not choice.is_ready_gguf
        ),
    }
    for fault, is_there in unread.items():
        if is_there:
            raise UsageError(f"{fault}.")


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _check(choice: ModelChoice, num_samples: int, params: SamplingParams, until: Until) -> None:
    base, reads = choice.base, choice.reads
    faults = {
        f"-k {num_samples}: expected at least 1. Give a larger one": num_samples < 1,
        f"-k {num_samples} at temperature 0: all samples of a problem would be equal. Give --temperature or -k 1": (
            num_samples > 1 and params.temperature == 0
        ),
        f"--until asks for {until.goal} paths, but -k allows at most {num_samples} samples. Raise -k": (
            until.goal is not None and until.goal > num_samples
        ),
        f"{base}: a .gguf needs its Hugging Face tokenizer. Name its folder with --tokenizer": (
            reads == "gguf" and choice.is_ready_gguf and choice.tokenizer is None
        ),
        f"{base}: --sampler {choice.sampler} does not read .gguf files. Name the model's folder": (
            reads == "folder" and choice.is_ready_gguf
        ),
        f"--adapter {choice.adapter}: a server has its own models. Name one of them as BASE": (
            reads == "server" and choice.adapter is not None
        ),
    }
    for fault, is_there in faults.items():
        if is_there:
            raise UsageError(f"{fault}.")


def _table(problems: str | Path | Sequence[str], needs_answers: bool) -> pa.Table:
    if isinstance(problems, str | Path):
        return load(str(problems), needs_answers=needs_answers)
    if wrong := next((text for text in problems if not isinstance(text, str)), None):
        raise UsageError(f"problems: found {wrong!r} among them. Expected a file, a name, or questions as text.")
    rows = [{"problem_id": str(i), "question": text, "solution": "", "answer": ""} for i, text in enumerate(problems)]
    return pa.Table.from_pylist(rows, schema=PROBLEMS)


def _examples(
    problems: str | Path | Sequence[str], table: pa.Table, count: int, name: str | None, wording: Wording
) -> list[prompts.Solved]:
    """Take them from the set that is named, or else from the train split of PROBLEMS, or else from PROBLEMS."""
    name = name or train_split(str(problems))
    place = name or (str(problems) if isinstance(problems, str | Path) else "the questions")
    return choose_examples(load(name) if name and count else table, count, wording, place)


# --------------------------------------------------------------------------------------------------------- samples ----


def sample(
    base: str, problems: str | Path | Sequence[str], num_samples: int = 1, **options: Any
) -> Iterator[Completion]:
    """Yield samples of every problem, each a Completion with its `text`, in the order in which they end.

    base: a known name, a folder, a hub name, a .gguf. problems: a file or a name, or the questions themselves,
    which are then problem "0", "1", ... options: those of `qrft sample`, such as temperature=0.7, max_new_tokens=256,
    stop=["\\n\\n"], adapter=Path("adapter"), sampler="transformers", until=Until(correct=4). Nothing is kept on
    disk. Raises UsageError for options that can't be, and the errors of the sampler.
    """
    choice, spec = prepare(base, problems, num_samples, **options)
    return stream(*begin(spec, _model(choice, _model_dir(choice), choice.label)))


def run(choice: ModelChoice, spec: SampleSpec, folder: Path, progress: Progress, part: Part = WHOLE) -> dict[str, Any]:
    """Sample what the folder lacks, and return the facts. part: which of the shards, if not all.

    Raises UsageError for a folder made with other settings, and for a part of samples that have a goal.
    """
    if part != WHOLE and spec.until.goal:
        raise UsageError(
            "--shard: with --until, which samples come next depends on all that came before. Leave one of the two out."
        )
    disk.check_place(folder)
    model_dir = _model_dir(choice)
    settings = _settings(choice, spec, model_dir)
    refuse_foreign(folder)  # before a lock is left in it
    with disk.lock(folder, f"{folder} is being written", " or name another folder with -o"):
        asked, label = agree(folder, settings, spec.num_samples, choice.label)
        remove_temporaries(folder)
        setup, passes = begin(spec, _model(choice, model_dir, label), asked)
        facts = collect(setup, passes, folder, progress, part=part)
        write_budget(passes, folder)
    return {**facts, "parity": choice.parity} if choice.reads == "gguf" else facts


def _settings(choice: ModelChoice, spec: SampleSpec, model_dir: Path | None) -> dict[str, Any]:
    """Return everything that decides the samples, except their number."""
    runtime = registry.backend(choice.sampler).RUNTIME_KEYS
    settings: dict[str, Any] = {
        "version": 2,
        "sampler": choice.sampler,
        "base": choice.base if model_dir is None else named(choice.base, _base_file(choice, model_dir)),
        "adapter": choice.adapter and named(str(choice.adapter), choice.adapter),
        **spec.wording.identity(),
        **({"system": spec.server_system} if spec.server_system else {}),
        "few_shot": max(0, len(spec.examples) - 1),
        "examples": digest(spec.examples),
        "problems": digest(spec.problems.to_pylist()),
        "num_problems": spec.problems.num_rows,
        **spec.params.model_dump(),
        "until": {"kind": spec.until.counts, "count": spec.until.goal} if spec.until.goal else None,
        "samples_per_shard": spec.samples_per_shard,
        **choice.settings.model_dump(exclude=set(runtime)),
    }
    if choice.is_ready_gguf and choice.tokenizer:
        settings["tokenizer"] = named(str(choice.tokenizer), choice.tokenizer)
    elif choice.reads == "gguf":
        settings["quant"] = choice.quant
    if spec.until.goal:
        settings["cut_off"] = spec.cut_off
        settings["rules"] = {**spec.rules.model_dump(), "judges_expressions": judges_expressions(spec.rules)}
    elif spec.params.stop and spec.rules.traces != TRACES:
        settings["traces"] = spec.rules.traces
    return json.loads(json.dumps(settings))  # type: ignore[no-any-return] # as they come back from the file


def _base_file(choice: ModelChoice, model_dir: Path) -> Path:
    return Path(choice.base).expanduser() if choice.is_ready_gguf else model_dir


# ---------------------------------------------------------------------------------------------------------- models ----


def _model_dir(choice: ModelChoice) -> Path | None:
    """Return the Hugging Face folder that makes the token ids; None where a server does."""
    if choice.reads == "server":
        return None
    if choice.is_ready_gguf:
        return choice.tokenizer
    return find_model(choice.base, is_exported=choice.reads == "gguf")


def _model(choice: ModelChoice, model_dir: Path | None, label: str) -> SampledModel:
    files = partial(_files, choice, model_dir)
    return SampledModel(choice.sampler, choice.settings, label, model_dir, files, choice.threads)


def _files(choice: ModelChoice, model_dir: Path | None, requests: Sequence[Request]) -> ModelFiles:
    if choice.reads != "gguf":
        return ModelFiles(choice.base, model_dir, choice.adapter)
    from qrft.models.gguf.parity import MAX_TOKENS

    assert model_dir is not None
    # The ends of the prompts, since all may begin with the same examples.
    ends = [request.prompt_ids[-MAX_TOKENS:] for request in requests[:NUM_PARITY_PROMPTS]]
    return _gguf_files(choice, model_dir, ends)


def _gguf_files(choice: ModelChoice, model_dir: Path, prompt_ids: list[list[int]]) -> ModelFiles:
    """Make the files that are lacking, and compare them with transformers if asked to."""
    from qrft.models.gguf.prepare import check_once, is_gguf, prepare_adapter, prepare_base

    base = prepare_base(choice.base, choice.tokenizer, choice.quant, n_threads=choice.threads)
    adapter = choice.adapter and prepare_adapter(choice.adapter, choice.base, choice.tokenizer)
    if choice.parity == "off":
        log.warning(NOT_COMPARED)
    elif any(model_dir.glob("*.safetensors")):
        is_ready = choice.adapter is None or is_gguf(str(choice.adapter))  # transformers has no part in such an adapter
        pair = (None, None) if is_ready else (choice.adapter, adapter)
        again = choice.parity == "always"
        check_once(model_dir, base, *pair, prompt_ids, again=again, n_threads=choice.threads)
    return ModelFiles(choice.base, model_dir, choice.adapter, base, adapter)
