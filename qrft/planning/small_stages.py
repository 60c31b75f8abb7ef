"""What the other stages will need: the export of a model, and those that take none."""

from __future__ import annotations

from functools import partial
from math import prod

from qrft.models.shape import Shape
from qrft.pipeline.graph import Step
from qrft.pipeline.stages import export
from qrft.pipeline.stages.pairs import Settings
from qrft.planning.amounts import input_step
from qrft.planning.basis import Basis, Estimate
from qrft.planning.sizes import adapter_bytes, gguf_bytes, makes_base, matrices, shape_of, weights_bytes
from qrft.planning.training import PROCESSOR_SHARE
from qrft.training import memory

DISK_SPEED, ROWS_PER_SECOND = 3e8, 1e5
PARITY_TOKENS = 8 * 256  # of the export's comparison, by transformers and by llama.cpp
# Operations a second of a core beside a GPU: a 7B shape took transformers 602 CPU seconds on one with AVX2.
CORE_FLOPS = 4.5e10


def export_model(step: Step, basis: Basis) -> Estimate:
    """Estimate the export of a base or an adapter, whose comparison by transformers is in float32 on the processor."""
    shape, on_gpu = shape_of(step), basis.device.is_gpu
    adapter, is_base = adapter_bytes(step, shape, on_gpu), makes_base(step, on_gpu)
    disk = gguf_bytes(shape, step) if is_base else adapter
    parts = dict.fromkeys(memory.PARTS, 0)
    parts["weights"] = max(_written(shape) if is_base else 0, _compared(step, shape, on_gpu))
    parts["adapter"], parts["overhead"] = adapter, memory.LIBRARIES
    seconds = 6 * shape.num_parameters / DISK_SPEED + _comparing_seconds(step, basis, shape) + 4
    return Estimate(parts=parts, in_ram=True, disk=disk, seconds=seconds, faults=_too_large(basis, parts))


def _written(shape: Shape) -> int:
    """Return the bytes in which the largest matrix is read, in float32, and written, in 16 bits."""
    return 6 * max(*map(prod, shape.linear.values()), *shape.outer)


def _compared(step: Step, shape: Shape, on_gpu: bool) -> int:
    """Return the bytes of the comparison: transformers' one block in float32, after it llama.cpp's whole file."""
    if not _is_compared(step):
        return 0
    return max(4 * shape.num_linear // shape.num_layers, 0 if on_gpu else weights_bytes(step, shape))


def _comparing_seconds(step: Step, basis: Basis, shape: Shape) -> float:
    """Return the time of transformers' pass, and on a processor of llama.cpp's two, exact and as it samples."""
    if not _is_compared(step):
        return 0.0
    operations = 2 * PARITY_TOKENS * matrices(shape)
    if basis.device.is_gpu:
        return operations / (CORE_FLOPS * basis.cores)
    return 3 * operations / (PROCESSOR_SHARE * (basis.device.flops or 1e11))


def _is_compared(step: Step) -> bool:
    assert isinstance(step.settings, export.Settings)
    return step.settings.parity != "off"


def _too_large(basis: Basis, parts: memory.Parts) -> tuple[str, ...]:
    if not basis.may_be_too_large(parts, in_ram=True):
        return ()
    return (f"{basis.sizes(parts, in_ram=True)}. Use gguf.quant q4_k_m, gguf.parity off, or a smaller base_model.",)


def table(step: Step, basis: Basis, *, row_bytes: int) -> Estimate:
    """Estimate a stage that writes a table, of so many bytes per row."""
    rows = basis.amounts.rows(step)
    return Estimate(disk=int(rows * row_bytes), seconds=rows / ROWS_PER_SECOND)


problems, curate, outside, grade = (partial(table, row_bytes=size) for size in (300, 1000, 300, 30))


def pairs(step: Step, basis: Basis) -> Estimate:
    """Estimate the pairs: at most so many per problem, with two solutions each."""
    assert isinstance(step.settings, Settings)
    num_pairs = step.settings.pairs_per_problem * basis.amounts.rows(input_step(step, "problems"))
    rows = sum(basis.amounts.rows(source) for source in step.inputs.values() if isinstance(source, Step))
    return Estimate(disk=int(num_pairs * 2000), seconds=rows / ROWS_PER_SECOND)


def next_to_nothing(step: Step, basis: Basis) -> Estimate:
    """Estimate a stage that only adds up what others made."""
    return Estimate()


def report(step: Step, basis: Basis) -> Estimate:
    return Estimate(seconds=2.0)
