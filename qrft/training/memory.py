"""Estimate the peak memory of a training from the model's sizes and the settings, and choose settings that fit.

The peak lies in the backward pass of a micro-batch that is not the first of its step: all gradients are there, and all
that the forward pass kept. `tests/planning/test_plan.py` holds every part that can be made without a GPU against the
real thing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from pathlib import Path

from qrft.config.training import Training
from qrft.errors import ModelError
from qrft.machine import free_memory, in_gib
from qrft.models.any_shape import read_shape
from qrft.models.shape import Shape
from qrft.training.loss import CHUNK_ELEMENTS
from qrft.training.model import choose_precision, has_bfloat16

# Either way, as a share of what is not counted to the byte; about a tenth of the whole.
ERROR_BAND = 0.25
COUNTED = ("weights", "quantisation state", "adapter", "optimizer", "gradients")
PARTS = (
    *COUNTED,
    "activations",
    "logits",
    "cache",
    "overhead",
)
MIB, GIB = 2**20, 2**30
# What a process holds on a GPU before its first tensor: not counted by torch.cuda.max_memory_allocated.
CUDA_CONTEXT = 450 * MIB
CUBLAS_WORKSPACE = 32 * MIB  # docs.pytorch.org, notes/cuda, "cuBLAS workspaces": 8 MiB, on Hopper 32
LIBRARIES = 700 * MIB  # resident in main memory once torch, transformers and peft are imported
REPLICA = 60 * MIB  # that a forked process writes to of what it shared, measured on the tiny base
SLACK = 0.05  # of what comes and goes: the allocator rounds up, and its free blocks do not always join
AUTOMATIC = ("adamw", "paged_adamw_8bit")  # what train.optimizer auto chooses from on a GPU, the faster one first
FEWEST_TOKENS = 2048  # of a micro-batch, for which keeping activations is faster than smaller memory would be
# The linear layers that read one tensor, which autograd keeps once.
_READ_ONE_TENSOR = (
    ("q_proj", "k_proj", "v_proj", "qkv_proj"),
    ("gate_proj", "up_proj", "gate_up_proj"),
    ("down_proj",),
)

Parts = dict[str, int]


def estimate(
    shape: Shape,
    settings: Training,
    *,
    tokens: int | None = None,
    on_gpu: bool = True,
    has_bfloat16: bool = True,
    cores: int = 1,
) -> Parts:
    """Return the bytes of each part, at the peak.

    tokens: in the largest row; None takes the most that the settings allow. has_bfloat16: whether the GPU or processor
    is faster in it. cores: of the processor, each with a process of its own (replicas).
    """
    chosen = choose_precision(settings, shape.hidden_size, on_gpu=on_gpu, has_bfloat16=has_bfloat16)
    number = 2 if chosen == "bfloat16" else 4
    tokens = tokens or most_tokens(settings)
    tensors = trained_tensors(shape, settings)
    is_lora, is_nf4 = settings.adapter == "lora", settings.quantization == "nf4"
    trained = 4 * sum(tensors)  # float32: peft casts its adapters so, and a full fine-tuning loads the weights so
    parts = dict.fromkeys(PARTS, 0)
    parts["weights"] = weights(shape, is_nf4, number) if is_lora else 4 * shape.num_parameters
    parts["quantisation state"] = quantisation_state(shape) if is_nf4 else 0
    parts["adapter"] = trained if is_lora else 0
    parts["optimizer"] = optimizer(tensors, optimizer_name(settings, on_gpu), 0 if is_lora else shape.outer[0])
    num_replicas = 0 if on_gpu else min(cores, settings.batch_size) - 1
    parts["gradients"] = trained * (1 + num_replicas)
    # The softmax is in float32; the processor makes a float32 copy of 16-bit logits first.
    each = number + 4 + (4 if number < 4 and not on_gpu else 0)
    chunk = each * min(CHUNK_ELEMENTS["cuda" if on_gpu else "cpu"], tokens * shape.vocab_size)
    parts["activations"], parts["logits"] = passing(shape, settings, tokens, number, chunk)
    moving = parts["activations"] + parts["logits"] + parts["gradients"]
    parts["overhead"] = (
        CUDA_CONTEXT + CUBLAS_WORKSPACE + int(SLACK * moving) if on_gpu else LIBRARIES + REPLICA * num_replicas
    )
    return parts


def error(parts: Parts) -> int:
    """Return the bytes by which the peak may lie above or below the estimate."""
    return int(ERROR_BAND * sum(size for name, size in parts.items() if name not in COUNTED))


def most_tokens(settings: Training) -> int:
    """Return the most tokens of a row: without packing each example is a row of its own."""
    return int(settings.sequence_len * (settings.micro_batch_size if settings.packing else 1))


def optimizer_name(settings: Training, on_gpu: bool) -> str:
    """Return the optimizer; of settings that were not fitted, auto stands for the one that takes the least memory."""
    automatic = AUTOMATIC[-1] if on_gpu else AUTOMATIC[0]
    return automatic if settings.optimizer == "auto" else str(settings.optimizer)


# --------------------------------------------------------------------------------------------------------- parts ----


def weights(shape: Shape, is_nf4: bool, number: int) -> int:
    """Return the bytes of the frozen model.

    NF4: two parameters per byte in the blocks' linear layers (bitsandbytes.functional, quantize_4bit); embeddings,
    head, norms and biases stay as they are loaded, `number` bytes per parameter.
    """
    rest = shape.num_parameters - shape.num_linear
    linear = shape.num_layers * sum(-(-prod(size) // 2) for size in shape.linear.values())
    return number * rest + (linear if is_nf4 else number * shape.num_linear)


def quantisation_state(shape: Shape) -> int:
    """Return the bytes that NF4 with double quantisation takes beside the codes.

    bitsandbytes.functional.quantize_4bit with compress_statistics: a byte for each block of 64 parameters, a float32
    for each 256 of these blocks, a float32 offset, and for each matrix its own code books of 16 and 256 float32.
    """
    blocks = [-(-prod(size) // 64) for size in shape.linear.values()]
    return shape.num_layers * sum(n + 4 * -(-n // 256) + 4 + 4 * (16 + 256) for n in blocks)


def trained_tensors(shape: Shape, settings: Training) -> list[int]:
    """Return the sizes of the tensors that learn: of each target A (rank x inputs) and B (outputs x rank), or all."""
    if settings.adapter == "none":
        block = [*map(prod, shape.linear.values()), *shape.block_vectors]
        return [*(block * shape.num_layers), *shape.outer]
    rank = settings.lora_r
    block = [rank * size for name in _targets(shape, settings) for size in shape.linear[name]]
    return block * shape.num_layers


def optimizer(tensors: list[int], name: str, embeddings: int = 0) -> int:
    """Return the bytes of AdamW's two moments. embeddings: the parameters of those among the tensors, if they learn.

    torch.optim.AdamW: float32, and a float32 step per tensor. bitsandbytes
    (optim.optimizer.Optimizer2State.init_state): from 4,096 elements on a byte each, and a float32 for each block of
    256; smaller tensors in float32; two code books of 256. The embeddings' are float32, as transformers asks for
    (Trainer.create_optimizer). Paged states are managed memory, which the driver moves out
    when the GPU runs full: they are counted, but never the reason for an out-of-memory.
    """
    if name == "adamw":
        return sum(8 * size + 4 for size in tensors)

    def in_8_bit(size: int) -> int:
        return 8 * size if size < 4096 else 2 * size + 8 * -(-size // 256)

    return sum(map(in_8_bit, tensors)) + 8 * embeddings - in_8_bit(embeddings) + 2 * 4 * 256


def passing(shape: Shape, settings: Training, tokens: int, number: int, chunk: int) -> tuple[int, int]:
    """Return activations and logits at their most: as the loss is taken, or in a block's backward pass after it.

    chunk: the bytes of the logits that there are at once, and of what is made of them.
    """
    kept = _kept(shape, settings, tokens, number)
    loss, after_loss = _logits(shape, tokens, number, chunk, trains_head=settings.adapter == "none")
    block = _backward(shape, settings, tokens, number)
    return (kept, loss) if loss > block + after_loss else (kept + block, after_loss)


def _logits(shape: Shape, tokens: int, number: int, chunk: int, trains_head: bool) -> tuple[int, int]:
    """Return what qrft.training.loss takes while it works, and after.

    A chunk of logits in the type of the arithmetic, and their float32 probabilities; the hidden states as the last norm
    keeps them, at the positions that predict, and their gradient. A head that learns adds its float32 gradient, summed
    over the chunks, and a copy of it in that type.
    """
    rows = number * tokens * shape.hidden_size
    last_norm = 4 * tokens * shape.hidden_size
    head = (4 + number) * shape.vocab_size * shape.hidden_size if trains_head else 0
    return chunk + last_norm + 2 * rows + head, rows + head


def _kept(shape: Shape, settings: Training, tokens: int, number: int) -> int:
    """Return what is there when the forward pass ends.

    With checkpointing that is one hidden state per block, without it all that autograd saves. Counted from the
    modelling code of transformers 5 (models/llama, models/qwen3).
    """
    angles = 2 * tokens * shape.head_dim * _residual(settings, number)
    if checkpoints(settings):
        return angles + shape.num_layers * tokens * shape.hidden_size * _residual(settings, number)
    return angles + shape.num_layers * _block(shape, settings, tokens, number)


def _backward(shape: Shape, settings: Training, tokens: int, number: int) -> int:
    """Return what a block's backward pass needs beside that.

    With checkpointing that is all that is computed again; and in the middle of the MLP two gradients of its inner
    width, and those of its output and of its norm.
    """
    inner, hidden = shape.intermediate_size, shape.hidden_size
    gradients = tokens * (2 * inner + 2 * hidden) * number
    again = 0
    if checkpoints(settings):
        again = _block(shape, settings, tokens, number)
        if _residual(settings, number) == 4:  # the first norm's float32 input is the hidden state itself
            again -= 4 * tokens * hidden
    largest = max(map(prod, shape.linear.values()))
    if settings.quantization == "nf4":
        return again + gradients + largest * number  # MatMul4Bit.backward of bitsandbytes makes the matrix whole again
    if settings.adapter == "none":  # a matrix' gradient, before it is added
        return again + gradients + largest * (4 + number if number < 4 else 4)
    return again + gradients


def _residual(settings: Training, number: int) -> int:
    """Return the bytes per number of the hidden states: those of the embeddings, which are float32 where they learn."""
    return number if settings.adapter == "lora" else 4


def _block(shape: Shape, settings: Training, tokens: int, number: int) -> int:
    return int(tokens * _saved(shape, settings, number, tokens)) + _casts(shape, settings, number)


def checkpoints(settings: Training) -> bool:
    """Tell whether activations are computed again; if it is left open, they are: that takes less memory."""
    return settings.gradient_checkpointing is not False


def _saved(shape: Shape, settings: Training, number: int, tokens: int) -> float:
    """Return the bytes that autograd keeps of one block for one token, its input included."""
    hidden, query, key, inner = shape.hidden_size, shape.query_size, shape.key_size, shape.intermediate_size
    is_full, rank, dropout = settings.adapter == "none", settings.lora_r, settings.lora_dropout
    norms = len(shape.norms) * hidden + (query + key if shape.qk_norm else 0)
    per_head = {"head": shape.num_heads + shape.num_kv_heads, "whole": 2, None: 0}
    num_norms = len(shape.norms) + per_head[shape.qk_norm]
    # float32 inputs of the norms with their root mean squares; where the norms learn, what they have normed too
    kept = 4.0 * (norms * (2 if is_full else 1) + num_norms)
    kept += number * (2 * query + 2 * key) + 4 * shape.num_heads  # turned queries and keys, values, output; logsumexp
    kept += 3 * number * inner  # gate, its SiLU, and up
    if settings.attention == "eager":  # softmax in float32, and as it is multiplied with the values
        kept += shape.num_heads * tokens * (4 + (number if number < 4 else 0))
    elif settings.attention in ("auto", "sdpa"):  # the examples' outputs, joined to one row
        kept += number * query
    if not is_full:  # what goes from A to B
        kept += number * rank * len(_targets(shape, settings))
    return kept + _inputs(shape, shape.layers if is_full else _targets(shape, settings), number, is_full, dropout)


def _inputs(shape: Shape, targets: Sequence[str], number: int, are_apart: bool, dropout: float) -> float:
    """Return the bytes that the inputs of the linear layers that learn take, for one token.

    Layers that read the same tensor keep it once, unless each has a copy of its own: cast to another type (are_apart),
    or with its own dropout, whose mask of a byte per number is kept too.
    """
    if dropout or (are_apart and number < 4):
        return sum((number + (1 if dropout else 0)) * shape.linear[name][1] for name in targets)
    sources = {name: source for source, names in enumerate(_READ_ONE_TENSOR) for name in names}
    read = {sources[name]: shape.linear[name][1] for name in targets if name in sources}
    return number * sum(read.values())  # what o_proj reads is attention's output, kept already


def _casts(shape: Shape, settings: Training, number: int) -> int:
    """Return the bytes of autocast's 16-bit copies of one block's float32 weights."""
    tensors = trained_tensors(shape, settings)
    if settings.adapter == "none":
        return number * sum(map(prod, shape.linear.values())) if number < 4 else 0
    return number * sum(tensors) // shape.num_layers if number < 4 else 0


def _targets(shape: Shape, settings: Training) -> tuple[str, ...]:
    targets = settings.target_modules
    return tuple(name for name in shape.layers if targets == "all-linear" or name in targets)


# ----------------------------------------------------------------------------------------------------------- fit ----


def available() -> int:
    """Return the bytes there are for what `estimate` counts: on the GPU, if there is one, else in main memory.

    The estimate counts CUDA's context, which this process has once it asks for the free memory: it is no longer free.
    """
    import torch

    return int(torch.cuda.mem_get_info()[0]) + CUDA_CONTEXT if torch.cuda.is_available() else free_memory()


def fit_here(settings: Training, model_dir: Path, num_threads: int | None = None) -> Training:
    """Fit the training of the model in a folder to this machine's free memory: see `fit`."""
    import torch

    on_gpu = torch.cuda.is_available()
    shape, cores = read_shape(model_dir), num_threads or len(os.sched_getaffinity(0))
    return fit(settings, shape, available(), on_gpu=on_gpu, has_bfloat16=has_bfloat16(), cores=cores)


def fit(
    settings: Training,
    shape: Shape,
    available_bytes: float,
    *,
    on_gpu: bool = True,
    has_bfloat16: bool = True,
    cores: int = 1,
) -> Training:
    """Return the settings with micro-batch, checkpointing, optimizer and precision chosen; a step's examples stay.

    With `vram` (GiB, or auto: what is free) the largest micro-batch whose activations can be kept, else the largest
    with checkpointing; micro_batch_size times gradient_accumulation_steps stays. Without `vram` only what is left open
    is chosen, and nothing is refused. Raises ModelError, with the numbers, when not even one example at a time fits.
    """
    vram = settings.vram
    budget = available_bytes if vram is None or vram == "auto" else min(available_bytes, vram * GIB)
    chosen = choose_precision(settings, shape.hidden_size, on_gpu=on_gpu, has_bfloat16=has_bfloat16)
    tried = list(_candidates(settings.model_copy(update={"precision": chosen}), on_gpu))
    for candidate in tried:
        parts = estimate(shape, candidate, on_gpu=on_gpu, cores=cores)
        if sum(parts.values()) + error(parts) <= budget:
            return candidate
    if vram is None:
        return tried[-1]
    raise ModelError(_too_large(tried[-1], parts, budget, vram))


def _candidates(settings: Training, on_gpu: bool) -> Iterator[Training]:
    """Yield the ways to do a step, from the fastest to the one that takes the least memory.

    Of a 7B model on a GPU, computing activations again is a third of a step's time, and each further row dequantises
    the base again, some 60 ms; the 8-bit optimizer, which waits for the GPU after every tensor, takes some 50 ms more.
    """
    micro, batch = settings.micro_batch_size, settings.batch_size
    sizes = [micro] if settings.vram is None else [n for n in range(batch, 0, -1) if batch % n == 0]
    kept = settings.gradient_checkpointing
    optimizers = AUTOMATIC if settings.optimizer == "auto" and on_gpu else (optimizer_name(settings, on_gpu),)
    for checkpointing, size, optimizer in product((False, True) if kept is None else (kept,), sizes, optimizers):
        is_full = size == sizes[0] or size * settings.sequence_len >= FEWEST_TOKENS
        if is_full or checkpointing or kept is False:
            chosen = {
                "micro_batch_size": size,
                "gradient_accumulation_steps": batch // size,
                "gradient_checkpointing": checkpointing,
                "optimizer": optimizer,
            }
            yield settings.model_copy(update=chosen)


def _too_large(settings: Training, parts: Parts, budget: float, vram: int | str) -> str:
    needed = sum(parts.values())
    listed = ", ".join(f"{name} {in_gib(size)}" for name, size in parts.items() if size >= 0.01 * needed)
    return (
        f"train.vram: found {vram}, {in_gib(budget)} to use; one example of {settings.sequence_len} tokens at a time "
        f"needs {in_gib(needed)}, give or take {in_gib(error(parts))} ({listed}). {what_to_change(settings, parts)}"
    )


def what_to_change(settings: Training, parts: Parts) -> str:
    """Name the settings that would make it smaller, those that gain most first."""
    trained = parts["adapter"] + parts["optimizer"] + parts["gradients"]
    is_plain = (settings.adapter, settings.quantization) == ("lora", "none")
    ways = {
        "train.adapter lora with train.quantization nf4": trained if settings.adapter == "none" else 0,
        "train.quantization nf4": parts["weights"] if is_plain else 0,
        "train.gradient_checkpointing true": 0 if checkpoints(settings) else parts["activations"],
        "a smaller train.micro_batch_size": parts["activations"] if settings.micro_batch_size > 1 else 0,
        "a smaller train.sequence_len": parts["activations"],
        "train.optimizer auto": parts["optimizer"] if settings.optimizer in ("adamw", "adamw_8bit") else 0,
        "a smaller train.lora_r": trained if settings.adapter == "lora" else 0,
        "a smaller base_model": parts["weights"] // 4,
    }
    best = [way for way, size in sorted(ways.items(), key=lambda item: -item[1]) if size > 0][:3]
    return f"Use {', or '.join(best)}."
