"""Sampling with transformers: any causal model that it loads; in the tests, the other samplers are compared with it.

Tokens are picked by the same code and from the same random streams as with llama.cpp, so the samples are equal wherever
the logits are. Samples are made in batches: each distinct prompt is decoded once, its cache copied to its samples, and
a row that ends leaves the batch.
"""

from __future__ import annotations

import inspect
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qrft.errors import SamplerError
from qrft.machine import is_out_of_memory
from qrft.models import prompts
from qrft.models.loading import load_adapter, load_model
from qrft.sampling.api import Completion, FinishReason, Request, SamplingParams, Stats
from qrft.sampling.backends.picking import Picker
from qrft.sampling.backends.stop_texts import first_stop
from qrft.sampling.backends.streams import sample_key


class _Job(NamedTuple):
    request: Request
    sample_index: int


class _Batch(NamedTuple):
    """What the next step needs; its rows are the samples that are not finished."""

    cache: Any
    mask: Any  # (rows, width), 0 for the padding at the left
    length: Any  # (rows, 1), tokens so far
    logits: NDArray[np.float32]  # (rows, vocabulary)


class TransformersSampler:
    """A model and an adapter in this process, on the CPU or a GPU.

    Args: `adapter_dir`: a PEFT adapter, applied unmerged. `dtype`: "float32", "bfloat16" or "float16"; None for float32
    on the CPU and the checkpoint's own elsewhere. `device`: as torch names it; None for the GPU if there is one.
    `batch_size`: samples that live at once; halved when memory runs out. `n_threads`: of torch in this whole process;
    None leaves them. The tokenizer in `model_dir` is read when stop texts are given.
    Raises ModelError when the model or the adapter can't be loaded.
    """

    def __init__(
        self,
        model_dir: Path,
        adapter_dir: Path | None = None,
        *,
        dtype: str | None = None,
        device: str | None = None,
        batch_size: int = 64,
        n_threads: int | None = None,
    ) -> None:
        import torch

        if n_threads is not None:
            torch.set_num_threads(n_threads)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model: Any = _load(model_dir, adapter_dir, dtype, self.device)
        self.model_dir, self.batch_size = model_dir, batch_size
        self.stats = Stats()  # of the latest `generate`
        config = self.model.config.get_text_config()
        self.n_vocab: int = config.vocab_size
        self.n_ctx_train: int | None = getattr(config, "max_position_embeddings", None)
        self._accepted = set(inspect.signature(self.model.forward).parameters)
        self._is_recurrent = "past_key_values" not in self._accepted
        self._cache_name = "cache_params" if self._is_recurrent else "past_key_values"
        self._tokenizer: Any = None

    def generate(
        self, requests: Iterable[Request], params: SamplingParams, eos_ids: Sequence[int]
    ) -> Iterator[Completion]:
        """Yield every sample of every request, batch by batch, in the order in which they end.

        The same arguments and batch size give the same samples. Raises SamplerError for a prompt that doesn't fit, and
        when memory runs out with a batch of one.
        """
        started = time.perf_counter()
        self.stats = Stats()
        todo = self._jobs(list(requests), params)
        if params.stop and self._tokenizer is None:
            self._tokenizer = prompts.load_tokenizer(self.model_dir)
        while todo:
            batch = [todo.popleft() for _ in range(min(self.batch_size, len(todo)))]
            unfinished = dict(enumerate(batch))
            out_of_memory = ""
            try:
                for row, completion in self._decode(batch, params, eos_ids):
                    del unfinished[row]
                    self.stats.count_finished(completion.finish_reason)
                    self.stats.total_seconds = time.perf_counter() - started
                    yield completion
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                out_of_memory = str(error).splitlines()[0]
            if out_of_memory:  # here, since the error itself keeps the batch's tensors alive
                self._halve(len(batch), out_of_memory)
                # Each sample has its own stream, so a sample that starts again comes out the same.
                todo.extendleft(reversed(unfinished.values()))

    def close(self) -> None:
        """Free the model's memory."""
        self.model = None
        _free_unused()

    def __enter__(self) -> TransformersSampler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _jobs(self, requests: list[Request], params: SamplingParams) -> deque[_Job]:
        """Return the samples to take, the longest prompts first: little padding, and memory runs out soon or never."""
        if self.model is None:
            raise SamplerError("the transformers sampler is closed. Open a new one.")
        wanted = [request for request in requests if request.num_samples > 0]
        for request in wanted:
            self._check_prompt(request, params)
        wanted.sort(key=lambda request: -len(request.prompt_ids))
        return deque(_Job(request, request.first_sample + i) for request in wanted for i in range(request.num_samples))

    def _check_prompt(self, request: Request, params: SamplingParams) -> None:
        ids, name = request.prompt_ids, f"the prompt of problem {request.problem_id!r}"
        if not ids:
            raise SamplerError(f"{name} is empty: expected one token at least. Add a beginning-of-text token.")
        if not 0 <= min(ids) <= max(ids) < self.n_vocab:
            raise SamplerError(
                f"{name} holds the token id {max(ids) if min(ids) >= 0 else min(ids)}, the model has ids 0 to "
                f"{self.n_vocab - 1}. Use the tokenizer of the base model."
            )
        if self.n_ctx_train is not None and len(ids) + params.max_new_tokens > self.n_ctx_train:
            raise SamplerError(
                f"{name} has {len(ids)} tokens, with max_new_tokens {params.max_new_tokens} more than the model's "
                f"context of {self.n_ctx_train}. Lower max_new_tokens, show fewer examples, or drop the problem."
            )

    def _decode(
        self, jobs: list[_Job], params: SamplingParams, eos_ids: Sequence[int]
    ) -> Iterator[tuple[int, Completion]]:
        """Yield (index in `jobs`, its completion)."""
        batch = self._prefill([job.request for job in jobs])
        keys = np.array([sample_key(params.seed, job.request.problem_id, job.sample_index) for job in jobs], np.uint64)
        temperatures = np.array([params.temperature_of(job.sample_index) for job in jobs])
        rows = np.arange(len(jobs))  # the jobs that are not finished
        output = np.zeros((len(jobs), params.max_new_tokens), np.int64)
        logprob = np.zeros(len(jobs))
        picker = Picker(params, *batch.logits.shape)
        for count in range(params.max_new_tokens):
            output[rows, count], logprobs = self._pick(picker, batch.logits, keys[rows], count, temperatures[rows])
            logprob[rows] += logprobs
            goes_on = np.ones(len(rows), np.bool_)
            for place, row in enumerate(rows.tolist()):
                token_ids = output[row, : count + 1]
                ending = self._ending(token_ids, params, eos_ids)
                if ending is not None:
                    goes_on[place] = False
                    name = jobs[row].request.problem_id, jobs[row].sample_index
                    yield row, Completion(*name, token_ids.tolist(), ending[0], float(logprob[row]), ending[1])
            rows = rows[goes_on]
            if not len(rows):
                return
            batch = self._step(batch, goes_on, output[rows, count])

    def _pick(
        self,
        picker: Picker,
        logits: NDArray[np.float32],
        keys: NDArray[np.uint64],
        count: int,
        temperatures: NDArray[np.float64],
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        before = time.perf_counter()
        tokens, logprobs = picker.pick(logits, keys, np.full(len(keys), count), temperatures=temperatures)
        self.stats.pick_seconds += time.perf_counter() - before
        self.stats.num_tokens += len(tokens)
        self.stats.num_live = len(tokens)
        return tokens, logprobs

    def _ending(
        self, token_ids: NDArray[np.int64], params: SamplingParams, eos_ids: Sequence[int]
    ) -> tuple[FinishReason, str | None] | None:
        """Return the finish reason of these tokens, and their text if a stop text cuts it; None if they go on."""
        if token_ids[-1] in eos_ids:
            return "stop", None
        text = self._text_before_stop(token_ids, params) if params.stop else None
        if text is not None:
            return "stop_text", text
        return ("length", None) if len(token_ids) == params.max_new_tokens else None

    def _text_before_stop(self, token_ids: NDArray[np.int64], params: SamplingParams) -> str | None:
        # Only the end can be new: a token of text is one byte or more, and a character four bytes or less.
        window = max(len(text.encode()) for text in params.stop) + 4
        if first_stop(self._text(token_ids[-window:]), params.stop) < 0:
            return None
        text = self._text(token_ids)
        start = first_stop(text, params.stop, params.stops_outside)
        return text[:start] if start >= 0 else None

    def _text(self, token_ids: NDArray[np.int64]) -> str:
        return str(self._tokenizer.decode(token_ids.tolist(), skip_special_tokens=True))

    def _prefill(self, requests: list[Request]) -> _Batch:
        """Decode each distinct prompt once, padded at the left, and copy its cache to the rows that need it."""
        import torch

        distinct = list({id(request): request for request in requests}.values())
        place = {id(request): index for index, request in enumerate(distinct)}
        width = max(len(request.prompt_ids) for request in distinct)
        ids = torch.zeros((len(distinct), width), dtype=torch.long)
        mask = torch.zeros((len(distinct), width), dtype=torch.long)
        for index, request in enumerate(distinct):
            ids[index, width - len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
            mask[index, width - len(request.prompt_ids) :] = 1
        self.stats.num_prompt_tokens += int(mask.sum())
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        cache, logits = self._forward(ids, mask, positions, None)
        rows = torch.tensor([place[id(request)] for request in requests])
        mask = mask[rows].to(self.device)
        cache.reorder_cache(rows.to(self.device))
        return _Batch(cache, mask, mask.sum(1, keepdim=True), logits[rows.numpy()])

    def _step(self, batch: _Batch, goes_on: NDArray[np.bool_], tokens: NDArray[np.int64]) -> _Batch:
        """Decode one more token for the unfinished rows, and drop the others."""
        import torch

        cache, mask, length, _ = batch
        if not goes_on.all():
            rows = torch.from_numpy(np.flatnonzero(goes_on)).to(self.device)
            cache.reorder_cache(rows)
            mask, length = mask[rows], length[rows]
        mask = torch.cat([mask, torch.ones_like(length)], dim=1)
        cache, logits = self._forward(torch.from_numpy(tokens[:, None]), mask, length, cache)
        return _Batch(cache, mask, length + 1, logits)

    def _forward(self, ids: Any, mask: Any, positions: Any, cache: Any) -> tuple[Any, NDArray[np.float32]]:
        """Return the cache and the logits (rows, vocabulary) of each row's last token."""
        import torch

        before = time.perf_counter()
        optional = {"position_ids": positions.to(self.device), "logits_to_keep": 1}  # not every architecture has them
        if self._is_recurrent and cache is not None:
            mask = torch.ones_like(ids)  # the padding is not part of its state, and has no column here
        with torch.no_grad():
            output = self.model(
                input_ids=ids.to(self.device),
                attention_mask=mask.to(self.device),
                **{self._cache_name: cache},
                use_cache=True,
                **{name: value for name, value in optional.items() if name in self._accepted},
            )
            logits: NDArray[np.float32] = output.logits[:, -1].float().cpu().numpy()
        self.stats.decode_seconds += time.perf_counter() - before
        self.stats.num_steps += 1
        return output[self._cache_name], logits

    def _halve(self, size: int, reason: str) -> None:
        if size == 1:
            raise SamplerError(
                f"{self.model_dir}: memory ran out with a single sample in the batch ({reason}). "
                "Lower max_new_tokens, choose bfloat16, or sample with llama.cpp from a quantised base."
            )
        self.batch_size = max(1, size // 2)
        _free_unused()


def _load(model_dir: Path, adapter_dir: Path | None, dtype: str | None, device: Any) -> Any:
    import torch

    chosen: Any = getattr(torch, dtype) if dtype else torch.float32 if device.type == "cpu" else "auto"
    try:
        model: Any = load_model(model_dir, dtype=chosen)
        if adapter_dir is not None:
            model = load_adapter(model, adapter_dir).get_base_model()
        return model.to(device).eval()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise SamplerError(
            f"{model_dir}: the model does not fit into memory ({str(error).splitlines()[0]}). Sample with llama.cpp "
            "from a quantised base, or choose a smaller model."
        ) from error


def _free_unused() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
