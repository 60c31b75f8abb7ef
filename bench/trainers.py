"""The training loops that are compared: transformers' Trainer with padding, TRL, a plain loop, and qrft.

Each trains from the same folder on the same examples, in their order, and says when its steps ended.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qrft.config.training import Training
from qrft.models.architectures import LINEAR
from qrft.models.prompts import Example

IGNORED = -100


@dataclass
class Trained:
    """times: of the ends of steps, in seconds; tokens: the real ones of each step; losses: of each step. paged: bytes
    of optimizer states in managed memory, of which torch's allocator does not know."""

    tokens: list[int]
    times: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    paged: int = 0

    @property
    def tokens_per_second(self) -> float:
        """From the end of the first step, which warms up, to that of the last."""
        return sum(self.tokens[1:]) / (self.times[-1] - self.times[0])


def in_steps(counts: Sequence[int], size: int) -> list[int]:
    return [sum(counts[i : i + size]) for i in range(0, len(counts), size)]


# ------------------------------------------------------------------------------------------ transformers and TRL


def lora(settings: Training) -> Any:
    from peft import LoraConfig

    names = {"lora_alpha", "lora_dropout", "target_modules", "use_rslora"}
    return LoraConfig(r=settings.lora_r, task_type="CAUSAL_LM", **settings.model_dump(include=names))


def load(folder: Path, settings: Training) -> Any:
    """The base as people load it for QLoRA: NF4 with double quantisation; float32 on the CPU, bfloat16 on a GPU."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, set_seed

    set_seed(settings.seed)
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        quantization_config=nf4 if settings.quantization == "nf4" else None,
        device_map={"": 0} if torch.cuda.is_available() else None,
    )


def with_lora(model: Any, settings: Training) -> Any:
    from peft import get_peft_model, prepare_model_for_kbit_training

    if settings.quantization == "nf4":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=settings.gradient_checkpointing)
    return get_peft_model(model, lora(settings))


def arguments(settings: Training, out: str) -> dict[str, Any]:
    """What transformers' TrainingArguments and TRL's SFTConfig share."""
    import torch

    gpu = torch.cuda.is_available()
    return dict(
        output_dir=out,
        num_train_epochs=1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler,
        warmup_steps=settings.warmup_ratio,
        weight_decay=settings.weight_decay,
        gradient_checkpointing=settings.gradient_checkpointing,
        optim="paged_adamw_8bit" if gpu else "adamw_torch_fused",
        bf16=gpu,
        use_cpu=not gpu,
        dataloader_pin_memory=gpu,
        seed=settings.seed,
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )


def rows(examples: Sequence[Example]) -> list[dict[str, list[int]]]:
    return [{"input_ids": ids, "labels": [IGNORED] * prompt + ids[prompt:]} for ids, prompt in examples]


def padded(folder: Path, examples: Sequence[Example], settings: Training) -> Trained:
    """transformers' Trainer as people write QLoRA today: a batch padded to its longest, labels of -100, full logits."""
    return _padded(with_lora(load(folder, settings), settings), folder, examples, settings)


def unsloth(folder: Path, examples: Sequence[Example], settings: Training) -> Trained:
    """The same with Unsloth's model, where that is installed; it has to be imported before transformers."""
    from unsloth import FastLanguageModel

    model, _ = FastLanguageModel.from_pretrained(
        str(folder), max_seq_length=settings.sequence_len, load_in_4bit=settings.quantization == "nf4"
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=list(LINEAR),
        use_gradient_checkpointing="unsloth" if settings.gradient_checkpointing else False,
    )
    return _padded(model, folder, examples, settings)


def _padded(model: Any, folder: Path, examples: Sequence[Example], settings: Training) -> Trained:
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    counts = [len(example.token_ids) for example in examples]
    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                **arguments(settings, out),
                per_device_train_batch_size=settings.micro_batch_size,
                gradient_accumulation_steps=settings.gradient_accumulation_steps,
            ),
            train_dataset=rows(examples),
            data_collator=DataCollatorForSeq2Seq(tokenizer, padding="longest"),
        )
        return _watched(trainer, in_steps(counts, settings.batch_size))


TRL_MODES: dict[str, Callable[[Training, int], dict[str, Any]]] = {
    "padded": lambda settings, rows_: _rows(settings.micro_batch_size, settings.gradient_accumulation_steps),
    "padding-free": lambda settings, rows_: {
        **_rows(settings.micro_batch_size, settings.gradient_accumulation_steps),
        "padding_free": True,
    },
    "packed, row by row": lambda settings, rows_: {**_rows(1, rows_), **_packing(settings)},
    "packed, rows together": lambda settings, rows_: {**_rows(rows_, 1), **_packing(settings)},
}


def _rows(size: int, accumulation: int) -> dict[str, Any]:
    return {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation, "max_length": None}


def _packing(settings: Training) -> dict[str, Any]:
    return {"packing": True, "packing_strategy": "bfd", "max_length": settings.sequence_len}


def trl(mode: str) -> Callable[[Path, Sequence[Example], Training], Trained]:
    """TRL's SFTTrainer in one of TRL_MODES. Where it packs, a step has about as many examples as the others'."""

    def train(folder: Path, examples: Sequence[Example], settings: Training) -> Trained:
        import torch
        from datasets import Dataset
        from peft import get_peft_model
        from transformers import AutoTokenizer
        from trl import SFTConfig, SFTTrainer

        counts = [len(example.token_ids) for example in examples]
        num_steps = -(-len(examples) // settings.batch_size)
        num_rows = max(1, round(sum(counts) / num_steps / settings.sequence_len))
        batching = TRL_MODES[mode](settings, num_rows)
        with tempfile.TemporaryDirectory() as out:
            model = get_peft_model(load(folder, settings), lora(settings))
            adapter = {name: parameter.data for name, parameter in model.named_parameters() if parameter.requires_grad}
            trainer = SFTTrainer(
                model=model,
                args=SFTConfig(**arguments(settings, out), **batching),
                train_dataset=Dataset.from_list(rows(examples)),
                processing_class=AutoTokenizer.from_pretrained(folder),
            )
            if not torch.cuda.is_available():  # it rounds a quantised base's adapters to bfloat16: not our precision
                for name, parameter in trainer.model.named_parameters():
                    parameter.data = adapter.get(name, parameter.data)
            counts = [len(row["input_ids"]) for row in trainer.train_dataset]
            size = batching["per_device_train_batch_size"] * batching["gradient_accumulation_steps"]
            return _watched(trainer, in_steps(counts, size))

    return train


def _watched(trainer: Any, tokens: list[int]) -> Trained:
    import torch
    from transformers import TrainerCallback
    from transformers.trainer_callback import PrinterCallback

    trained = Trained(tokens)

    class Watch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            trained.times.append(time.perf_counter())

    trainer.add_callback(Watch())
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trained.losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return trained


# ------------------------------------------------------------------------------------------------ a plain loop


def plain(folder: Path, examples: Sequence[Example], settings: Training) -> Trained:
    """No Trainer, no batch, no padding: an example at a time, all logits, float32 on the CPU, a constant rate."""
    import torch
    from peft import get_peft_model
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM, set_seed

    set_seed(settings.seed)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), lora(settings))
    model.train()
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    size = settings.batch_size
    trained = Trained(in_steps([len(e.token_ids) for e in examples], size))
    for first in range(0, len(examples), size):
        step = examples[first : first + size]
        num_targets = sum(len(ids) - prompt for ids, prompt in step)
        total = 0.0
        for ids, prompt in step:
            logits = model(input_ids=torch.tensor([ids])).logits[0, prompt - 1 : -1]
            loss = cross_entropy(logits, torch.tensor(ids[prompt:]), reduction="sum") / num_targets
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)  # the Trainer's default
        optimizer.step()
        optimizer.zero_grad()
        trained.times.append(time.perf_counter())
        trained.losses.append(total)
    return trained


# ---------------------------------------------------------------------------------------------------------- qrft


def steps(num_examples: int, settings: Training) -> list[list[int]]:
    """The order of qrft, which the others are given."""
    from qrft.training import schedule

    return schedule.steps(num_examples, settings.batch_size, settings.num_epochs, settings.seed)


def paged_bytes() -> int:
    """Return the bytes of the paged optimizer states that there are now: a training frees its own at its end."""
    from bitsandbytes.functional import GlobalPageManager

    return sum(tensor.nbytes for tensor in GlobalPageManager.get_instance().paged_tensors)


def qrft(folder: Path, examples: Sequence[Example], settings: Training) -> Trained:
    """As `qrft train` does it: what the settings leave open is fitted, and on the processor a core has a process."""
    import torch
    from transformers import AutoTokenizer

    from qrft.training.memory import fit_here
    from qrft.training.replicas import num_processes
    from qrft.training.trainer import train

    settings = fit_here(settings, folder, torch.get_num_threads())
    processes = num_processes(settings.batch_size, torch.get_num_threads())
    trained = Trained([sum(len(examples[i].token_ids) for i in step) for step in steps(len(examples), settings)])

    def progress(done: int, total: int, note: str) -> None:
        if done:
            trained.times.append(time.perf_counter())
            trained.paged = max(trained.paged, paged_bytes())

    with tempfile.TemporaryDirectory() as out:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        places = Path(out, "adapter"), Path(out, "checkpoints")
        facts = train(folder, examples, tokenizer, settings, *places, progress, num_processes=processes)
    trained.losses = [row["loss"] for row in facts["losses"]]
    return trained
