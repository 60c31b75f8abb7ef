"""Each step of a plan with its tokens, memory by part, disk and time; sums, energy and cost. Nothing is loaded.

Training: floating-point operations over an assumed share of the peak. A forward pass takes 2N a token (Kaplan et al.
2020, arXiv 2001.08361), and 2 layers x length x width for attention; the gradient of the activations as much again,
that of the weights too where they learn, and checkpointing one more forward pass. So QLoRA takes 6N with checkpointing
and 4N without, and every weight 8N or 6N. Sampling: a step reads the weights and the caches of all sequences once,
or multiplies for them, whichever takes longer.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qrft.config.training import Training
from qrft.errors import ModelError
from qrft.machine import in_gib
from qrft.models.shape import Shape, read_shape
from qrft.models.weights import read_json
from qrft.pipeline.graph import Source, Step
from qrft.pipeline.store import Store
from qrft.planning.amounts import Amounts, Lengths, assumptions
from qrft.planning.devices import Device
from qrft.training import memory
from qrft.training.memory import MIB, Parts

# A time is taken to lie between the estimate over its band and the estimate times it.
BAND, CALIBRATED_BAND = 2.0, 1.25
TRAIN_SHARE, DECODE_SHARE, READ_SHARE = 0.4, 0.3, 0.6  # of peak operations, and of peak bandwidth
PROCESSOR_SHARE = 0.5  # of a processor's own measured product of matrices
# Of launching, beside the operations: a layer's training of a row, on a GPU and on a processor; a step of decoding.
LAYER_SECONDS, PROCESSOR_LAYER_SECONDS, STEP_SECONDS = 3e-3, 8e-3, 2e-3
USUAL_LIVE = 32  # sequences, where the recipe leaves their number open
SHARED = 4  # samples of a problem, from which on its sequences share one cache
GGUF_BYTES = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32, "q4_k_m": 0.604}  # of a parameter of a matrix
DISK_SPEED, GRADED_A_SECOND = 3e8, 1e5
CHECKPOINTS = 2  # that lie on the disk while a third is written over the older one
PARITY_TOKENS = 8 * 256  # of the export's comparison, by transformers and by llama.cpp
JOULE_A_KWH = 3.6e6


@dataclass(frozen=True)
class Speed:
    """What --calibrate measured against the estimate: factors of time, and bytes above the estimate of memory."""

    train: float = 1.0
    decode: float = 1.0
    train_bytes: int = 0
    is_measured: bool = False

    @property
    def band(self) -> float:
        return CALIBRATED_BAND if self.is_measured else BAND


@dataclass(frozen=True)
class Row:
    """A step. tokens: trained on, or sampled. disk: bytes that stay. seconds: None where the speed is not known."""

    name: str
    stage: str
    reads: str
    is_there: bool
    tokens: int = 0
    parts: Parts = field(default_factory=dict)
    in_ram: bool = False
    disk: int = 0
    seconds: float | None = 0.0
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def memory(self) -> int:
        return sum(self.parts.values())

    @property
    def error(self) -> int:
        return memory.error(self.parts)


@dataclass(frozen=True)
class Forecast:
    """price: of a kWh, or with is_hourly of an hour."""

    rows: tuple[Row, ...]
    device: Device
    speed: Speed
    price: float | None = None
    is_hourly: bool = False
    assumptions: tuple[str, ...] = ()

    @property
    def todo(self) -> list[Row]:
        return [row for row in self.rows if not row.is_there]

    @property
    def seconds(self) -> float | None:
        times = [row.seconds for row in self.todo]
        return None if None in times else sum(time for time in times if time)

    @property
    def disk(self) -> int:
        return sum(row.disk for row in self.todo)

    @property
    def kwh(self) -> float | None:
        """At full board power: an upper bound of what the GPU takes; the rest of the machine is not in it."""
        seconds, watts = self.seconds, self.device.watts
        return None if seconds is None or watts is None else seconds * watts / JOULE_A_KWH

    @property
    def cost(self) -> float | None:
        if self.price is None or self.seconds is None:
            return None
        if self.is_hourly:
            return self.price * self.seconds / 3600
        return None if self.kwh is None else self.price * self.kwh

    def as_json(self) -> dict[str, Any]:
        rows = [
            {
                "step": row.name,
                "stage": row.stage,
                "is_there": row.is_there,
                "tokens": row.tokens,
                "memory_bytes": row.memory,
                "memory_error_bytes": row.error,
                "memory_by_part": row.parts,
                "memory_in_ram": row.in_ram,
                "disk_bytes": row.disk,
                "seconds": row.seconds,
                "notes": list(row.notes),
                "faults": list(row.faults),
            }
            for row in self.rows
        ]
        device = {"name": self.device.name, "memory_bytes": self.device.memory, "is_gpu": self.device.is_gpu}
        return {
            "steps": rows,
            "device": {**device, "watts": self.device.watts},
            "is_calibrated": self.speed.is_measured,
            "seconds": self.seconds,
            "seconds_factor_either_way": self.speed.band,
            "disk_bytes": self.disk,
            "kwh": self.kwh,
            "cost": self.cost,
            "assumptions": list(self.assumptions),
        }


class Forecaster:
    """Rows of steps, in the order of the plan."""

    def __init__(self, root: Store, device: Device, speed: Speed | None = None) -> None:
        self.amounts, self.root, self.device, self.speed = Amounts(root), root, device, speed or Speed()

    def row(self, step: Step) -> Row:
        reads = ", ".join(
            source.name if isinstance(source, Step) else source.path.name for source in step.inputs.values()
        )
        if self.amounts.is_there(step):
            disk = sum(file.stat().st_size for file in self._folder(step).rglob("*") if file.is_file())
            tokens = int(self.amounts.report(step).get("num_tokens") or 0)
            return Row(step.name, step.stage, reads, True, tokens, disk=disk)
        estimate = {"train": self._train, "sample": self._sample, "export": self._export}.get(step.stage, self._small)
        return Row(step.name, step.stage, reads, False, **estimate(step))

    def _folder(self, step: Step) -> Path:
        return self.root.path(step.stage, step.digest)

    # --------------------------------------------------------------------------------------------------- training ----

    def training(self, step: Step) -> tuple[Training, Lengths, str]:
        """The settings as they will be chosen, the examples that are not too long, and why nothing fits, if so."""
        settings = training_of(step)
        lengths = self.amounts.lengths(_step(step, "training"), folder_of(step), settings.prompt)
        fault = ""
        try:
            settings = memory.fit(settings, shape_of(step), self.device.memory, **self._kind())
        except ModelError as error:
            fault = str(error)
        return settings, lengths.up_to(settings.sequence_len), fault

    def _kind(self) -> dict[str, bool]:
        return {"on_gpu": self.device.is_gpu, "mixed": self.device.mixed}

    def _train(self, step: Step) -> dict[str, Any]:
        settings, lengths, fault = self.training(step)
        shape = shape_of(step)
        tokens = round(lengths.count * lengths.mean_total * settings.num_epochs)
        parts = memory.estimate(shape, settings, tokens=largest_row(settings, lengths), **self._kind())
        parts["overhead"] = max(0, parts["overhead"] + self.speed.train_bytes)
        faults = [fault] if fault else self._too_large(settings, parts)
        trained = memory.trained_tensors(shape, settings)
        saved = 2 * shape.num_parameters if settings.adapter == "none" else 4 * sum(trained)
        name = memory.optimizer_name(settings, self.device.is_gpu)
        optimizer = memory.optimizer(trained, name)
        chosen = (
            f"{settings.micro_batch_size} examples x {settings.gradient_accumulation_steps} a step, "
            f"{name}, activations {'computed again' if memory.checkpoints(settings) else 'kept'}"
        )
        return {
            "tokens": tokens,
            "parts": parts,
            "disk": saved + CHECKPOINTS * (4 * sum(trained) + optimizer),
            "seconds": self.train_seconds(shape, settings, lengths, tokens),
            "notes": (chosen,),
            "faults": tuple(faults),
        }

    def _too_large(self, settings: Training, parts: Parts) -> list[str]:
        if not self._may_be_too_large(parts):
            return []
        return [f"{self._sizes(parts)}. {memory.what_to_change(settings, parts)}"]

    def _may_be_too_large(self, parts: Parts) -> bool:
        return sum(parts.values()) + memory.error(parts) > self.device.memory

    def _sizes(self, parts: Parts) -> str:
        needed = f"{in_gib(sum(parts.values()))} needed, give or take {in_gib(memory.error(parts))}"
        return f"{needed}, {in_gib(self.device.memory)} there"

    def train_seconds(self, shape: Shape, settings: Training, lengths: Lengths, tokens: int) -> float | None:
        if self.device.flops is None:
            return None
        passes: int = 2 + (settings.adapter == "none") + memory.checkpoints(settings)
        attention = shape.num_layers * lengths.mean_total * shape.query_size
        operations = 2 * passes * (matrices(shape) + attention)
        if settings.adapter == "lora":
            operations += 6 * sum(memory.trained_tensors(shape, settings))
        share = TRAIN_SHARE if self.device.is_gpu else PROCESSOR_SHARE
        rows = tokens / max(1, min(largest_row(settings, lengths), tokens))
        a_layer = LAYER_SECONDS if self.device.is_gpu else PROCESSOR_LAYER_SECONDS
        launching = rows * shape.num_layers * a_layer
        return float(self.speed.train * (tokens * operations / (share * self.device.flops) + launching))

    # --------------------------------------------------------------------------------------------------- sampling ----

    def _sample(self, step: Step) -> dict[str, Any]:
        shape, config = shape_of(step), step.config
        lengths = self.amounts.lengths(_step(step, "problems"), folder_of(step), config["prompt"])
        num = self.amounts.rows(step)
        mean = min(lengths.mean_completion, config["max_new_tokens"])
        prompt = self._longest_prompt(step, lengths)
        live, parts = self._context(step, shape, prompt, live_sequences(config, num))
        ways = "gguf.quant q4_k_m, or a smaller " + ("sample.num_sequences" if live > 1 else "base_model")
        faults = [f"{self._sizes(parts)}. Use {ways}."] if self._may_be_too_large(parts) else []
        longest = prompt + config["max_new_tokens"]
        if longest > (most := context_of(folder_of(step))):
            faults.append(
                f"up to {longest:,} tokens needed, a context of {most:,.0f} there. Use fewer examples or tokens."
            )
        return {
            "tokens": round(num * mean),
            "parts": parts,
            "disk": int(2 * num * mean),  # compressed text
            "seconds": self.sample_seconds(step, shape, lengths, num, mean, live),
            "notes": (f"{live} sequences at once",),
            "faults": tuple(faults),
        }

    def _longest_prompt(self, step: Step, lengths: Lengths) -> int:
        """In tokens, with the worked examples."""
        longest = max(lengths.prompts, default=0)
        if "examples" not in step.inputs:
            return longest
        examples = self.amounts.lengths(_step(step, "examples"), folder_of(step), step.config["prompt"])
        return longest + examples.largest_sum(step.config["few_shot"])

    def _context(self, step: Step, shape: Shape, prompt: int, most: int) -> tuple[int, Parts]:
        """How many sequences live at once, at most so many, and the memory: the sampler sizes its context by what is
        free, and leaves a quarter of that alone."""
        is_open = step.config["num_sequences"] is None
        found = []
        for live in [most >> n for n in range(most.bit_length())] if is_open else [most]:
            for cells in cache_cells(step.config, prompt, live):
                found.append((live, self._sampling_parts(step, shape, cells, live)))
                if not self._may_be_too_large(found[-1][1]):
                    return found[-1]
        return found[-1]

    def _sampling_parts(self, step: Step, shape: Shape, cells: int, live: int) -> Parts:
        """llama.cpp: the file as it lies, keys and values in 16 bits, a step's logits and its working memory."""
        parts = dict.fromkeys(memory.PARTS, 0)
        parts["weights"] = weights_bytes(step, shape)
        parts["adapter"] = adapter_bytes(step, shape)
        parts["cache"] = 2 * 2 * shape.num_layers * shape.key_size * cells
        parts["logits"] = 4 * live * shape.vocab_size
        parts["activations"] = 4 * 512 * (3 * shape.intermediate_size + 4 * shape.hidden_size)  # of 512 tokens at once
        parts["overhead"] = memory.CUDA_CONTEXT if self.device.is_gpu else 200 * MIB
        return parts

    def sample_seconds(
        self,
        step: Step,
        shape: Shape,
        lengths: Lengths,
        num: float,
        mean: float,
        live: int,
        *,
        reads_prompts: bool = True,
    ) -> float | None:
        """Of `num` samples of `mean` tokens, `live` at a time."""
        if self.device.flops is None or self.device.bandwidth is None:
            return None
        context = lengths.mean_prompt + mean / 2
        cache = 2 * 2 * shape.num_layers * shape.key_size * live * context
        reading = (weights_bytes(step, shape) + cache) / (READ_SHARE * self.device.bandwidth)
        multiplying = 2 * matrices(shape) * live / (DECODE_SHARE * self.device.flops)
        decoding = num * mean / live * (max(reading, multiplying) + self._step_seconds())
        prompts = num / max(1.0, self.amounts.num_samples(step)) if reads_prompts else 0
        reading_prompts = 2 * matrices(shape) * prompts * lengths.mean_prompt / (DECODE_SHARE * self.device.flops)
        return self.speed.decode * (decoding + reading_prompts)

    def _step_seconds(self) -> float:
        return STEP_SECONDS if self.device.is_gpu else STEP_SECONDS / 2

    # ----------------------------------------------------------------------------------------------------- others ----

    def _export(self, step: Step) -> dict[str, Any]:
        """The base as a file, or the adapter as one; transformers compares it in main memory and in float32."""
        shape = shape_of(step)
        makes_base = not {"base", "file"} & step.inputs.keys()
        adapter = adapter_bytes(step, shape)
        disk = int(gguf_bytes(shape, step.config["quant"])) if makes_base else adapter
        parts = dict.fromkeys(memory.PARTS, 0)
        parts["weights"] = 4 * shape.num_parameters + (disk if makes_base else weights_bytes(step, shape))
        parts["adapter"], parts["overhead"] = adapter, memory.LIBRARIES
        parity = 2 * 2 * PARITY_TOKENS * matrices(shape)
        here = self.device.flops if not self.device.is_gpu else 2e10 * (os.cpu_count() or 1)
        seconds = 6 * shape.num_parameters / DISK_SPEED + parity / (PROCESSOR_SHARE * (here or 1e11)) + 4
        return {"parts": parts, "in_ram": True, "disk": disk, "seconds": seconds}

    def _small(self, step: Step) -> dict[str, Any]:
        """What takes no model."""
        rows = self.amounts.rows(step) if step.stage in ("problems", "curate", "grade") else 0
        size = {"problems": 300, "curate": 1000, "grade": 30}.get(step.stage, 0)
        return {"disk": int(rows * size), "seconds": rows / GRADED_A_SECOND + (2 if step.stage == "report" else 0)}


def forecast(steps: Iterable[Step], root: Store, device: Device, speed: Speed | None = None, **price: Any) -> Forecast:
    """Of the steps of a plan, each after what it reads; `price` and `is_hourly` as in Forecast."""
    forecaster = Forecaster(root, device, speed)
    steps = list(steps)
    rows = tuple(forecaster.row(step) for step in steps)
    todo = (step for step, row in zip(steps, rows, strict=True) if not row.is_there)
    return Forecast(rows, device, forecaster.speed, **price, assumptions=assumptions(todo))


# ----------------------------------------------------------------------------------------------------- sizes ----


def largest_row(settings: Training, lengths: Lengths) -> int:
    """Tokens of the largest row of a training: of a step's examples, as many as find room in one."""
    longest = max(lengths.totals, default=1)
    if not settings.packing:
        return longest
    batch = settings.micro_batch_size * settings.gradient_accumulation_steps
    return max(longest, min(memory.most_tokens(settings), lengths.largest_sum(batch)))


def live_sequences(config: Mapping[str, Any], num_samples: float) -> int:
    return max(1, min(config["num_sequences"] or USUAL_LIVE, math.ceil(num_samples)))


def cache_cells(config: Mapping[str, Any], prompt: int, live: int) -> list[int]:
    """Tokens of the context for so many sequences at once, as large as the sampler likes it and as small as it can be.

    Beside the sequences that grow, others hold prompts (qrft.sampling.backends.llama_cpp.sizing). Samples of a problem
    can share the cells of its prompt; where there are few, each sequence has its own.
    """
    new, num_samples = config["max_new_tokens"], config["num_samples"]
    held = min(live, live // num_samples + 2)
    if num_samples < SHARED:
        return [(live + held) * (prompt + new)]
    return [live * (prompt + new) + held * prompt, live * new + held * prompt]


def matrices(shape: Shape) -> int:
    """Parameters that a token is multiplied with: not the embeddings, which are looked up, but the head."""
    return shape.num_linear + shape.vocab_size * shape.hidden_size


def gguf_bytes(shape: Shape, quant: str) -> float:
    return GGUF_BYTES[quant] * (shape.num_linear + sum(shape.outer))


def weights_bytes(step: Step, shape: Shape) -> int:
    """Of the file that a step samples from or compares with."""
    base = step.inputs.get("base") or step.inputs.get("file")
    if isinstance(base, Source):
        return base.path.stat().st_size
    return int(gguf_bytes(shape, base.config["quant"] if base else step.config["quant"]))


def adapter_bytes(step: Step, shape: Shape) -> int:
    """Of the adapter that is applied at run time: float32 in its file."""
    source = step.inputs.get("adapter")
    while isinstance(source, Step) and source.stage != "train":
        source = source.inputs.get("adapter")
    merges = step.stage == "export" and not {"base", "file"} & step.inputs.keys()
    if not isinstance(source, Step) or merges:
        return 0
    return 4 * sum(memory.trained_tensors(shape, training_of(source)))


def training_of(step: Step) -> Training:
    """The settings of a step of the stage `train`."""
    return Training(**step.config)


def folder_of(step: Step) -> Path:
    """The base model that a step is about."""
    for name in ("model", "tuned"):
        source = step.inputs.get(name)
        if isinstance(source, Source):
            return source.path
        if isinstance(source, Step):
            return folder_of(source)
    raise ValueError(f"{step.name} has no model")


def context_of(folder: Path) -> float:
    """The most tokens of a prompt and its sample together, as the model was trained; inf where it does not say."""
    return float(read_json(folder / "config.json").get("max_position_embeddings") or math.inf)


def shape_of(step: Step) -> Shape:
    return read_shape(folder_of(step))


def _step(step: Step, name: str) -> Step:
    source = step.inputs[name]
    assert isinstance(source, Step)
    return source
