"""Ask the models that a run or `qrft train` left behind, with the prompt that they were trained with."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import pyarrow as pa

from qrft.commands.trained import Trained
from qrft.data.schema import PROBLEMS
from qrft.models.architectures import is_supported
from qrft.models.gguf.header import read_header
from qrft.models.gguf.parity import MAX_TOKENS
from qrft.models.gguf.prepare import check_once, prepare_adapter, prepare_base
from qrft.models.json_file import read_json
from qrft.progress import Progress, unwatched
from qrft.sampling.api import Completion, LocalSettings, ModelFiles, Request, Sampler, SamplingParams
from qrft.sampling.backends.registry import SamplerName
from qrft.sampling.shards import finish
from qrft.sampling.spec import SampledModel, SampleSpec, begin

WIDE = ("f32", "f16", "bf16")  # precisions in which a model is compared with another one
NUM_PARITY_PROMPTS = 8
MOST_AT_ONCE = 32  # sequences: what is asked here is too little for measuring what suits the model


def fitting_sampler(model: Trained) -> SamplerName:
    """Return what answers fastest here: llama.cpp, where qrft makes a GGUF file of the model."""
    return "llama.cpp" if is_supported(read_json(model.folder / "config.json")) else "transformers"


class Asking:
    """A model that is loaded at the first question and stays so within the `with` block.

    sampler: None for what fits. is_wide: ask the model in 16 bits or more, though the run sampled a coarser file.
    """

    def __init__(
        self,
        model: Trained,
        *,
        sampler: SamplerName | None = None,
        is_wide: bool = False,
        num_threads: int | None = None,
    ) -> None:
        self.model, self._is_wide, self._num_threads = model, is_wide, num_threads
        self._name = sampler or fitting_sampler(model)
        self._sampler: Sampler | None = None

    def ask(
        self,
        questions: Sequence[str],
        params: SamplingParams,
        num_samples: int = 1,
        progress: Progress = unwatched,
    ) -> list[list[Completion]]:
        """Return the answers to each question, each with its text."""
        bare = {"solution": "", "answer": ""}
        rows = [{"problem_id": str(i), "question": text, **bare} for i, text in enumerate(questions)]
        table = pa.Table.from_pylist(rows, schema=PROBLEMS)
        total = num_samples * len(questions)
        spec = SampleSpec(
            table, num_samples, params, self.model.wording, rules=self.model.rules, samples_per_shard=max(1, total)
        )
        settings = LocalSettings(num_sequences=min(total, MOST_AT_ONCE))
        sampled = SampledModel(self._name, settings, self.model.name, self.model.folder, self._files, self._num_threads)
        setup, passes = begin(spec, sampled)
        if self._sampler is None:
            self._sampler = setup.open()
        answers: list[list[Completion]] = [[] for _ in questions]
        progress(0, total, "")
        for shard in passes.shards():
            for completion in self._sampler.generate(shard, setup.params, setup.eos_ids):
                answers[int(completion.problem_id)] += finish([completion], setup)
                progress(sum(map(len, answers)), total, "")
            break  # the only one
        return [sorted(found, key=lambda completion: completion.sample_index) for found in answers]

    def __enter__(self) -> Asking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None

    def _files(self, requests: Sequence[Request]) -> ModelFiles:
        """Take the run's own files, or make them once, in the cache, and compare them with transformers."""
        model = self.model
        if self._name == "transformers":
            return ModelFiles(model.name, model.folder, model.adapter)
        if model.gguf is not None and (not self._is_wide or read_header(model.gguf).precision in WIDE):
            return ModelFiles(model.name, model.folder, gguf=model.gguf, adapter_gguf=model.adapter_gguf)
        base = prepare_base(str(model.folder), n_threads=self._num_threads)
        adapter = model.adapter and prepare_adapter(model.adapter, str(model.folder))
        prompts = [request.prompt_ids[-MAX_TOKENS:] for request in requests[:NUM_PARITY_PROMPTS]]
        check_once(model.folder, base, model.adapter, adapter, prompts, n_threads=self._num_threads)
        return ModelFiles(model.name, model.folder, gguf=base, adapter_gguf=adapter)
