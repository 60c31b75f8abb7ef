"""llama.cpp's low-level interface: a model, a context with many sequences, a batch written through numpy.

Runs in the worker process only: a model's memory is free when its process ends, and llama.cpp aborts where Python
would raise.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from qrft.errors import OutOfMemoryError, SamplerError
from qrft.sampling.api import EngineOptions
from qrft.sampling.backends.llama_cpp import amx, devices, memory

_WARNING, _CONTINUED = 3, 5  # of enum ggml_log_level
_FULL, _NO_MEMORY = 1, -2  # what llama_decode returns when it finds no cells, or no memory for a step
_CACHE_TYPES = {"f32": 0, "f16": 1, "q8_0": 8}  # ggml_type
UBATCH = 512  # tokens that go through the layers together
_FEW = 16  # tokens, up to which CUDA multiplies otherwise
CELL_PADDING = 256  # llama.cpp rounds a sequence's room to this


@dataclass(frozen=True)
class Engine:
    """A loaded model. `n_ctx_train`: tokens of context it was made for."""

    options: EngineOptions
    model: Any
    adapter: Any
    n_vocab: int
    n_ctx_train: int


@dataclass(frozen=True)
class Shape:
    """What a context must hold: sequences, tokens in a sequence, tokens in all, rows of logits. `n_live`: sequences for
    samples; `n_holders`: for prompts."""

    n_seq: int
    n_ctx_seq: int
    n_ctx: int
    n_batch: int
    n_outputs: int
    kv_unified: bool
    n_live: int = 1
    n_holders: int = 0


@dataclass(frozen=True)
class Context:
    """A context and its batch: numpy arrays (n_batch,) of which the first n rows are decoded."""

    handle: Any
    memory: Any
    batch: Any
    n_vocab: int
    tokens: NDArray[np.int32]
    positions: NDArray[np.int32]
    sequences: NDArray[np.int32]
    outputs: NDArray[np.int8]  # 1 where logits are wanted
    keep_alive: tuple[NDArray[Any], ...]  # what the batch points to


def num_threads(options: EngineOptions) -> int:
    """Return how many threads decode, and pick tokens where there are enough of them."""
    return options.n_threads or len(os.sched_getaffinity(0))


def load(options: EngineOptions) -> Engine:
    """Load a base model and, if given, a LoRA adapter.

    Raises SamplerError when they can't fit in memory, before anything is loaded, and when llama.cpp can't use them.
    """
    lib.llama_backend_init()
    devices.load_plugin()
    memory.check_fits(options)
    params = lib.llama_model_default_params()
    params.use_extra_bufts = amx.may_have_weights(options.base_gguf)
    model = lib.llama_model_load_from_file(os.fsencode(options.base_gguf), params)
    if not model:
        raise SamplerError(f"{options.base_gguf}: llama.cpp can't load it as a model. Export the base again.")
    if lib.llama_model_has_encoder(model) or lib.llama_model_is_recurrent(model) or lib.llama_model_is_diffusion(model):
        raise SamplerError(
            f"{options.base_gguf}: {_description(model)} is no plain decoder, whose cache samples can share. "
            "Use the transformers sampler, or another model."
        )
    adapter = None
    if options.adapter_gguf is not None:
        adapter = lib.llama_adapter_lora_init(model, os.fsencode(options.adapter_gguf))
        if not adapter:
            raise SamplerError(
                f"{options.adapter_gguf}: llama.cpp can't use it as an adapter of {options.base_gguf}. "
                "Export it again for this base model."
            )
    n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    return Engine(options, model, adapter, n_vocab, lib.llama_model_n_ctx_train(model))


def _description(model: Any) -> str:
    buffer = ctypes.create_string_buffer(128)
    lib.llama_model_desc(model, buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace")


@contextmanager
def open_context(engine: Engine, shape: Shape) -> Iterator[Context]:
    """Open an empty context of this shape, with the adapter on. Raises OutOfMemoryError when there is none for it."""
    handle = lib.llama_init_from_model(engine.model, _context_params(engine.options, shape))
    if not handle:
        raise OutOfMemoryError(
            f"llama.cpp can't make a context of {shape.n_seq} sequences of {shape.n_ctx_seq} tokens: "
            "not enough memory. Lower num_sequences or max_new_tokens."
        )
    try:
        if engine.adapter is not None:
            adapters = (lib.llama_adapter_lora_p_ctypes * 1)(engine.adapter)
            if lib.llama_set_adapters_lora(handle, adapters, 1, (ctypes.c_float * 1)(1.0)) != 0:
                raise SamplerError(f"{engine.options.adapter_gguf}: llama.cpp can't apply it. Export it again.")
        yield _context(handle, engine.n_vocab, shape.n_batch)
    finally:
        lib.llama_free(handle)


def begin_decode(context: Context, num_tokens: int) -> bool:
    """Begin to decode the first `num_tokens` rows of the batch: a processor ends it too, a GPU goes on by itself.

    Return False when the context has no room for them; it is then as before. Raises OutOfMemoryError when there is none
    for the step, and SamplerError when llama.cpp fails otherwise.
    """
    context.batch.n_tokens = num_tokens
    status = lib.llama_decode(context.handle, context.batch)
    if status not in (0, _FULL):
        kind = OutOfMemoryError if status == _NO_MEMORY else SamplerError
        raise kind(f"llama.cpp could not decode {num_tokens} tokens: it returned {status}. Lower num_sequences.")
    return bool(status != _FULL)


def wait_for_logits(context: Context, num_rows: int) -> NDArray[np.float32]:
    """Return the logits (num_rows, vocabulary) of the rows of the latest decode whose outputs were set, in its order: a
    view, valid until the next decode begins."""
    if num_rows == 0:
        return np.empty((0, context.n_vocab), np.float32)
    pointer = lib.llama_get_logits(context.handle)
    return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (num_rows, context.n_vocab))


def share(context: Context, source: int, target: int) -> None:
    """Empty the sequence `target`, then let it hold what `source` holds."""
    lib.llama_memory_seq_rm(context.memory, target, -1, -1)
    lib.llama_memory_seq_cp(context.memory, source, target, -1, -1)


def empty(context: Context, sequence: int) -> None:
    """Empty a sequence: its place can be used again."""
    lib.llama_memory_seq_rm(context.memory, sequence, -1, -1)


def prompt_logits(engine: Engine, prompt: list[int]) -> NDArray[np.float32]:
    """Return logits (tokens, vocabulary) of all positions of a prompt."""
    check_tokens(engine, "the prompt", prompt)
    tokens = prompt + prompt[-1:] * _padding(len(prompt))
    length = len(tokens)
    shape = Shape(n_seq=1, n_ctx_seq=length, n_ctx=length, n_batch=length, n_outputs=length, kv_unified=True)
    with open_context(engine, shape) as context:
        context.tokens[:] = tokens
        context.positions[:] = np.arange(length)
        context.sequences[:] = 0
        context.outputs[:] = 1
        has_room = begin_decode(context, length)
        assert has_room  # the context was made for it
        return wait_for_logits(context, length)[: len(prompt)].copy()


def _padding(length: int) -> int:
    """Return how many tokens to add to a prompt so that its last pass through the layers has more than 16 of them.

    For up to 16 CUDA has kernels of its own that round to TF32 (ggml-cuda/mmf.cu), whatever the environment says. What
    stands behind a token does not change its logits.
    """
    rest = length % UBATCH
    return max(0, _FEW + 1 - rest) if rest else 0


def token_pieces(engine: Engine) -> list[bytes]:
    """Return the bytes of every token, none for special ones. Raises SamplerError when the GGUF has no vocabulary."""
    vocab = _vocabulary(
        engine,
        "so stop texts can't be found in its samples. Leave the stop texts out, or export a base whose tokenizer.json "
        "is a BPE one.",
    )
    return [_piece(vocab, token) for token in range(engine.n_vocab)]


def text_tokens(engine: Engine, text: str) -> list[int]:
    """Return the token ids of a text, with those that llama.cpp puts around it; a control token that it spells is text.

    Raises SamplerError when the GGUF has no vocabulary.
    """
    vocab = _vocabulary(engine, "so it can't tell its tokens. Name a file with a vocabulary.")
    data = text.encode()
    tokens = (ctypes.c_int32 * (len(data) + 8))()
    length = lib.llama_tokenize(vocab, data, len(data), tokens, len(tokens), True, False)
    return tokens[: max(0, length)]


def _vocabulary(engine: Engine, otherwise: str) -> Any:
    vocab = lib.llama_model_get_vocab(engine.model)
    if lib.llama_vocab_type(vocab) == lib.LLAMA_VOCAB_TYPE_NONE:
        raise SamplerError(f"{engine.options.base_gguf} holds no vocabulary, {otherwise}")
    return vocab


def _piece(vocab: Any, token: int) -> bytes:
    buffer = ctypes.create_string_buffer(64)
    length = lib.llama_token_to_piece(vocab, token, buffer, len(buffer), 0, False)
    if length < 0:  # longer than the buffer
        buffer = ctypes.create_string_buffer(-length)
        length = lib.llama_token_to_piece(vocab, token, buffer, len(buffer), 0, False)
    return buffer.raw[:length]


def check_tokens(engine: Engine, name: str, tokens: list[int]) -> None:
    """Refuse an empty prompt, or one with ids that the model doesn't have, by a SamplerError."""
    if not tokens:
        raise SamplerError(f"{name} is empty: expected one token at least. Add a beginning-of-text token.")
    if not 0 <= min(tokens) <= max(tokens) < engine.n_vocab:
        raise SamplerError(
            f"{name} holds the token id {max(tokens)}, the model has ids 0 to {engine.n_vocab - 1}. "
            "Use the tokenizer of the base model."
        )


_is_shown = [False]  # whether the line that a continuation belongs to was shown


@lib.llama_log_callback  # type: ignore[untyped-decorator]
def _log(level: int, text: bytes, _user_data: object) -> None:
    if level != _CONTINUED:
        _is_shown[0] = level >= _WARNING
    if _is_shown[0]:
        sys.stderr.write(text.decode("utf-8", "replace"))


def set_log() -> None:
    """Send warnings and errors to stderr, the rest nowhere. Needed once, after the import has set its own log."""
    lib.llama_log_set(_log, ctypes.c_void_p(0))


def _context_params(options: EngineOptions, shape: Shape) -> Any:
    params = lib.llama_context_default_params()
    per_stream = -(-shape.n_ctx_seq // CELL_PADDING) * CELL_PADDING
    params.n_ctx = shape.n_ctx if shape.kv_unified else shape.n_seq * per_stream
    params.n_seq_max = shape.n_seq
    params.n_batch = shape.n_batch
    params.n_ubatch = min(shape.n_batch, UBATCH)
    params.n_outputs_max = shape.n_outputs
    params.n_outputs_max_per_seq = 0  # as many as n_outputs_max
    params.n_threads = params.n_threads_batch = num_threads(options)
    params.type_k = params.type_v = _CACHE_TYPES[options.cache_type]
    params.kv_unified = shape.kv_unified
    params.flash_attn_type = _flash_attention(options)
    return params


def _flash_attention(options: EngineOptions) -> int:
    """Return llama_flash_attn_type: llama.cpp's choice on a GPU; off on a CPU, where it rounds to f16 for no gain.

    A cache of values in q8_0 works with it only.
    """
    if options.cache_type == "q8_0":
        return 1
    if options.flash_attention is None:
        return -1 if lib.llama_supports_gpu_offload() else 0
    return int(options.flash_attention)


def _context(handle: Any, n_vocab: int, n_batch: int) -> Context:
    """Make a batch of our own, so that every field is one numpy array and none is written token by token."""
    tokens, positions, sequences = (np.zeros(n_batch, np.int32) for _ in range(3))
    outputs = np.zeros(n_batch, np.int8)
    counts = np.ones(n_batch, np.int32)
    pointers = sequences.ctypes.data + np.arange(n_batch, dtype=np.uintp) * sequences.itemsize
    batch: Any = lib.llama_batch()
    batch.token = _pointer(tokens, ctypes.c_int32)
    batch.pos = _pointer(positions, ctypes.c_int32)
    batch.n_seq_id = _pointer(counts, ctypes.c_int32)
    batch.seq_id = _pointer(pointers, ctypes.POINTER(ctypes.c_int32))
    batch.logits = _pointer(outputs, ctypes.c_int8)
    memory = lib.llama_get_memory(handle)
    return Context(handle, memory, batch, n_vocab, tokens, positions, sequences, outputs, (counts, pointers))


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))
