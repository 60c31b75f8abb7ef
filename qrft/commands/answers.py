"""Ask the models that a run or `qrft train` left behind, with the prompt that they were trained with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import pyarrow as pa

from qrft.commands.trained import Trained
from qrft.data.schema import PROBLEMS
from qrft.models.architectures import is_supported
from qrft.models.gguf.header import read_header
from qrft.models.gguf.prepare import check_once, prepare_adapter, prepare_base
from qrft.models.json_file import read_json
from qrft.progress import Progress, unwatched
from qrft.sampling.api import Completion, ModelFiles, Request, SamplingParams
from qrft.sampling.backends import registry
from qrft.sampling.backends.registry import SamplerName
from qrft.sampling.shards import stream
from qrft.sampling.spec import SampledModel, SampleSpec, begin

WIDE = ("f32", "f16", "bf16")  # precisions in which a model is compared with another one
NUM_PARITY_PROMPTS, MAX_PARITY_TOKENS = 8, 256


def fitting_sampler(model: Trained) -> SamplerName:
    """Return what answers fastest here: llama.cpp, where qrft makes a GGUF file of the model."""
    return "llama.cpp" if is_supported(read_json(model.folder / "config.json")) else "transformers"


def ask(
    model: Trained,
    questions: Sequence[str],
    params: SamplingParams,
    *,
    num_samples: int = 1,
    sampler: SamplerName | None = None,
    is_wide: bool = False,
    num_threads: int | None = None,
    progress: Progress = unwatched,
) -> list[list[Completion]]:
    """Return the answers to each question, each with its text.

    sampler: None for what fits. is_wide: ask the model in 16 bits or more, though the run sampled a coarser file.
    """
    sampler = sampler or fitting_sampler(model)
    rows = [{"problem_id": str(i), "question": text, "solution": "", "answer": ""} for i, text in enumerate(questions)]
    table = pa.Table.from_pylist(rows, schema=PROBLEMS)
    spec = SampleSpec(table, num_samples, params, model.wording, rules=model.rules)
    settings = registry.backend(sampler).Settings()

    def files(requests: Sequence[Request]) -> ModelFiles:
        if sampler == "transformers":
            return ModelFiles(model.name, model.folder, model.adapter)
        return _gguf_files(model, requests, is_wide, num_threads)

    setup, passes = begin(spec, SampledModel(sampler, settings, model.name, model.folder, files, num_threads))
    answers: list[list[Completion]] = [[] for _ in questions]
    total = num_samples * len(questions)
    progress(0, total, "")
    with closing(stream(setup, passes)) as completions:  # type: ignore[type-var] # a generator
        for number, completion in enumerate(completions, 1):
            answers[int(completion.problem_id)].append(completion)
            progress(number, total, "")
    return [sorted(found, key=lambda completion: completion.sample_index) for found in answers]


def _gguf_files(model: Trained, requests: Sequence[Request], is_wide: bool, num_threads: int | None) -> ModelFiles:
    """Take the run's own files, or make them once, in the cache, and compare them with transformers."""
    if model.gguf is not None and (not is_wide or read_header(model.gguf).precision in WIDE):
        return ModelFiles(model.name, model.folder, gguf=model.gguf, adapter_gguf=model.adapter_gguf)
    base = prepare_base(str(model.folder), n_threads=num_threads)
    adapter = model.adapter and prepare_adapter(model.adapter, str(model.folder))
    prompts = [request.prompt_ids[-MAX_PARITY_TOKENS:] for request in requests[:NUM_PARITY_PROMPTS]]
    check_once(model.folder, base, model.adapter, adapter, prompts, n_threads=num_threads)
    return ModelFiles(model.name, model.folder, gguf=base, adapter_gguf=adapter)
