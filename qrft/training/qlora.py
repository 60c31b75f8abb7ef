"""QLoRA: a 4-bit base (bitsandbytes NF4, double quantisation), LoRA adapters (peft), transformers' Trainer."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrft.errors import DataError, ModelError
from qrft.prompts import Example

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

Progress = Callable[[int, int, str], None]
IGNORED = -100  # the label that torch's cross-entropy leaves out
WHOLE = "whole"  # the file that says a checkpoint was written to its end


def load_base(model_dir: Path, quantization: str) -> PreTrainedModel:
    """The base model, NF4 or as it is; float32 arithmetic on the CPU, bfloat16 on a GPU."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    nf4 = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    try:
        return AutoModelForCausalLM.from_pretrained(
            model_dir,
            dtype=dtype,
            quantization_config=nf4 if quantization == "nf4" else None,
            device_map={"": 0} if torch.cuda.is_available() else None,
        )
    except Exception as error:  # the library raises many kinds for an unreadable folder
        raise ModelError(
            f"{model_dir}: the model can't be loaded ({str(error).splitlines()[0]}). "
            "Expected config.json and whole *.safetensors files; download the model again or name another folder."
        ) from error


def add_lora(model: PreTrainedModel, config: Mapping[str, Any]) -> Any:
    """Wraps the model with new LoRA adapters; the random initialisation is the caller's seed."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if config["quantization"] == "nf4":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=torch.cuda.is_available())  # type: ignore[no-untyped-call]
    lora = LoraConfig(
        r=config["lora_r"],
        lora_alpha=config["lora_alpha"],
        lora_dropout=config["lora_dropout"],
        target_modules=config["target_modules"],
        use_rslora=config["use_rslora"],
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, lora)
    except ValueError as error:
        raise ModelError(
            f"train.target_modules: {config['target_modules']!r} does not fit this model ({error}). Use all-linear."
        ) from error


def collate(examples: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    """Right-padded [batch, length] token ids, attention mask, and labels on the completion only."""
    import torch

    length = max(len(e.token_ids) for e in examples)
    batch: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for token_ids, prompt_length in examples:
        padding = length - len(token_ids)
        batch["input_ids"].append(token_ids + [pad_id] * padding)
        batch["attention_mask"].append([1] * len(token_ids) + [0] * padding)
        batch["labels"].append([IGNORED] * prompt_length + token_ids[prompt_length:] + [IGNORED] * padding)
    return {name: torch.tensor(rows) for name, rows in batch.items()}


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    whole = [p.parent for p in folder.glob(f"checkpoint-*/{WHOLE}")]
    return max(whole, key=lambda p: int(p.name.rpartition("-")[2]), default=None)


def _watch(progress: Progress, checkpoint_seconds: float, num_tokens: int) -> TrainerCallback:
    """Reports each step, asks for a checkpoint now and then, and marks it once it is whole."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        saved = time.monotonic()
        began: tuple[float, int] | None = None  # when this process started, and at which step
        loss = float("nan")

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = self.began or (time.monotonic(), state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            start, first = self.began or (time.monotonic(), 0)
            share = (state.global_step - first) / state.max_steps
            rate = share * num_tokens / max(1e-9, time.monotonic() - start)
            progress(state.global_step, state.max_steps, f"loss {self.loss:.3f}, {rate:,.0f} tokens/s")
            control.should_save = time.monotonic() - self.saved > checkpoint_seconds

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            self.loss = (logs or {}).get("loss", self.loss)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / WHOLE).touch()
            self.saved = time.monotonic()

    return Watch()


def _arguments(config: Mapping[str, Any], checkpoints: Path) -> TrainingArguments:
    import torch
    from transformers import TrainingArguments

    gpu = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=config["num_epochs"],
        per_device_train_batch_size=config["micro_batch_size"],
        gradient_accumulation_steps=config["gradient_accumulation_steps"],
        learning_rate=config["learning_rate"],
        lr_scheduler_type=config["lr_scheduler"],
        warmup_steps=config["warmup_ratio"],  # below 1: a share of all steps
        weight_decay=config["weight_decay"],
        optim="paged_adamw_8bit" if gpu else "adamw_torch_fused",
        bf16=gpu,
        use_cpu=not gpu,
        seed=config["seed"],
        data_seed=config["seed"],
        logging_steps=10,
        save_strategy="no",  # the callback asks for checkpoints, by the clock
        save_total_limit=1,
        remove_unused_columns=False,
        dataloader_pin_memory=gpu,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )


def train(
    model_dir: Path,
    examples: Sequence[Example],
    pad_id: int,
    config: Mapping[str, Any],
    out: Path,
    checkpoints: Path,
    progress: Progress,
) -> list[dict[str, float]]:
    """Trains an adapter into `out`, going on from the newest whole checkpoint; returns the logged losses.

    Raises DataError without examples, ModelError when the base can't be loaded or the loss is no longer a number.
    """
    from transformers import Trainer, set_seed
    from transformers.trainer_callback import PrinterCallback

    if not examples:
        raise DataError("There is not one example to train on: every problem was dropped. Raise train.max_length.")
    set_seed(config["seed"])
    base = load_base(model_dir, config["quantization"])
    model = base if config.get("adapter", "lora") == "none" else add_lora(base, config)
    num_tokens = int(sum(len(e.token_ids) for e in examples) * config["num_epochs"])
    trainer = Trainer(
        model=model,
        args=_arguments(config, checkpoints),
        train_dataset=list(examples),
        data_collator=lambda rows: collate(rows, pad_id),
        callbacks=[_watch(progress, 60 * config["checkpoint_minutes"], num_tokens)],
    )
    trainer.remove_callback(PrinterCallback)
    resume = last_checkpoint(checkpoints)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    losses = [entry for entry in trainer.state.log_history if "loss" in entry]
    _refuse_nan(losses)
    model.save_pretrained(out)
    if config.get("adapter", "lora") == "lora":
        _sort_sets(out / "adapter_config.json")
    del trainer, model  # a GPU's memory is for the sampler next
    gc.collect()
    _empty_gpu()
    return losses


def _refuse_nan(losses: Sequence[Mapping[str, float]]) -> None:
    for entry in losses:
        if entry["loss"] != entry["loss"]:
            raise ModelError(f"The loss is not a number from step {entry['step']:.0f} on. Lower train.learning_rate.")


def _sort_sets(path: Path) -> None:
    """peft keeps module names in sets and writes them in any order; the same training must give the same file."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config = {key: sorted(value) if isinstance(value, list) else value for key, value in config.items()}
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def _empty_gpu() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
