"""What a training will need.

Floating-point operations over an assumed share of the peak. A forward pass takes 2N per token (Kaplan et al. 2020,
arXiv 2001.08361), and 2 layers x length x width for attention; the gradient of the activations takes as much again,
that of the weights too where they learn, and checkpointing one more forward pass. So QLoRA takes 6N with checkpointing
and 4N without, and every weight 8N or 6N.
"""

from __future__ import annotations

from qrft.config.training import Training
from qrft.errors import ModelError
from qrft.models.shape import Shape
from qrft.pipeline.graph import Step
from qrft.planning.amounts import Lengths, input_step
from qrft.planning.basis import Basis, Estimate
from qrft.planning.sizes import folder_of, matrices, shape_of
from qrft.training import memory
from qrft.training.memory import Parts
from qrft.training.model import choose_precision

TRAIN_SHARE = 0.4  # of a GPU's peak operations
PROCESSOR_SHARE = 0.5  # of a processor's own measured product of matrices, which is in float32
AMX_TIMES = 1.6  # as fast is training in bfloat16, where the processor has a unit for it
LAYER_SECONDS, PROCESSOR_LAYER_SECONDS = 3e-3, 8e-3  # of launching a layer's training of a row, beside the operations
CHECKPOINTS = 2  # both are on the disk while a third is written


def estimate(step: Step, basis: Basis) -> Estimate:
    settings, lengths, fault = choose(step, basis)
    shape = shape_of(step)
    tokens = round(lengths.mean_total * num_examples(step, settings, lengths, basis))
    parts = memory.estimate(shape, settings, tokens=largest_row(settings, lengths), **basis.arithmetic)
    parts["overhead"] = max(0, parts["overhead"] + basis.speed.train_bytes)
    return Estimate(
        tokens=tokens,
        parts=parts,
        disk=disk(shape, settings, basis),
        seconds=seconds(basis, shape, settings, lengths, tokens),
        notes=(in_words(settings, shape, basis),),
        faults=(fault,) if fault else too_large(basis, settings, parts),
    )


def num_examples(step: Step, settings: Training, lengths: Lengths, basis: Basis) -> float:
    """Return how many examples the steps of a training hold; as many as another takes, where that says how many."""
    if "steps_of" not in step.inputs:
        steps = settings.num_steps
        return lengths.count * settings.num_epochs if steps is None else steps * settings.batch_size
    like = input_step(step, "steps_of")
    others, other_lengths, _ = choose(like, basis)
    return num_examples(like, others, other_lengths, basis) / others.batch_size * settings.batch_size


def choose(step: Step, basis: Basis) -> tuple[Training, Lengths, str]:
    """Return the settings that will be chosen, the examples that are not too long, and why nothing fits, if so."""
    settings = step.settings
    assert isinstance(settings, Training)
    lengths = basis.amounts.lengths(input_step(step, "training"), folder_of(step), settings.wording)
    lengths = lengths.up_to(settings.sequence_len)
    try:
        return memory.fit(settings, shape_of(step), basis.device.memory, **basis.arithmetic), lengths, ""
    except ModelError as error:
        return settings, lengths, str(error)


def in_words(settings: Training, shape: Shape, basis: Basis) -> str:
    optimizer = memory.optimizer_name(settings, basis.device.is_gpu)
    activations = "computed again" if memory.checkpoints(settings) else "kept"
    examples = f"{settings.micro_batch_size} examples x {settings.gradient_accumulation_steps} a step"
    return f"{examples}, {_precision(settings, shape, basis)}, {optimizer}, activations {activations}"


def _precision(settings: Training, shape: Shape, basis: Basis) -> str:
    device = basis.device
    return choose_precision(settings, shape.hidden_size, on_gpu=device.is_gpu, has_bfloat16=device.has_bfloat16)


def disk(shape: Shape, settings: Training, basis: Basis) -> int:
    """Return the bytes of what is saved, and of the intermediate checkpoints."""
    trained = memory.trained_tensors(shape, settings)
    saved = 2 * shape.num_parameters if settings.adapter == "none" else 4 * sum(trained)
    optimizer = memory.estimate(shape, settings, **basis.arithmetic)["optimizer"]
    return saved + CHECKPOINTS * (4 * sum(trained) + optimizer)


def too_large(basis: Basis, settings: Training, parts: Parts) -> tuple[str, ...]:
    if not basis.may_be_too_large(parts):
        return ()
    return (f"{basis.sizes(parts)}. {memory.what_to_change(settings, parts)}",)


def seconds(basis: Basis, shape: Shape, settings: Training, lengths: Lengths, tokens: int) -> float | None:
    """Return the seconds that training on so many tokens takes; None where the device's speed is unknown."""
    device = basis.device
    if device.flops is None:
        return None
    passes: int = 2 + (settings.adapter == "none") + memory.checkpoints(settings)
    attention = shape.num_layers * lengths.mean_total * shape.query_size
    operations = 2 * passes * (matrices(shape) + attention)
    if settings.adapter == "lora":
        operations += 6 * sum(memory.trained_tensors(shape, settings))
    share = TRAIN_SHARE if device.is_gpu else PROCESSOR_SHARE
    if not device.is_gpu and _precision(settings, shape, basis) == "bfloat16":
        share *= AMX_TIMES
    rows = tokens / max(1, min(largest_row(settings, lengths), tokens))
    launching = rows * shape.num_layers * (LAYER_SECONDS if device.is_gpu else PROCESSOR_LAYER_SECONDS)
    return float(basis.speed.train * (tokens * operations / (share * device.flops) + launching))


def largest_row(settings: Training, lengths: Lengths) -> int:
    """Return the tokens of the largest row: as many of a step's examples as fit into one."""
    longest = max(lengths.totals, default=1)
    if not settings.packing:
        return longest
    return max(longest, min(memory.most_tokens(settings), lengths.largest_sum(settings.batch_size)))
