"""Fine-tune a base model on examples: an adapter, or all its weights (docs/design.md, Training)."""

from __future__ import annotations

import gc
import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrft.config.training import Training
from qrft.errors import DataError, ModelError, UsageError
from qrft.machine import is_out_of_memory
from qrft.models.architectures import is_supported
from qrft.models.json_file import read_json
from qrft.models.loading import load_config
from qrft.models.prompts import Example
from qrft.progress import Progress
from qrft.training import attention, card, lora, loss, memory, model, schedule, watch
from qrft.training.checkpoints import WRITING, last, tidy
from qrft.training.kept import nothing_kept

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from qrft.training.step_trainer import StepTrainer

OPTIMIZERS = {  # names of train.optimizer: those of transformers
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
}
LOGS = "logs"  # TensorBoard's
LAST_STEPS = 10  # over which the final loss is a mean


def train(
    model_dir: Path,
    examples: Sequence[Example],
    tokenizer: Any,
    settings: Training,
    out: Path,
    checkpoints: Path,
    progress: Progress,
    start: Path | None = None,
    num_processes: int = 1,
    num_steps: int | None = None,
) -> dict[str, Any]:
    """Train an adapter, or the whole model, into `out`; go on from the newest checkpoint in `checkpoints`.

    The tokenizer is only saved with a whole model: rows have no padding, so it needs no padding token.
    start: the folder of an adapter that is trained further. num_processes: those that share a step (see replicas).
    num_steps: None for as many as the settings say.
    Returns facts: `losses` (a row per optimizer step), final_loss, num_examples, num_steps, num_tokens, num_trained,
    seconds, tokens_per_second, padding_share, peak_memory_bytes, row_tokens, num_out_of_memory, and the
    optimizer and precision that were chosen.
    Under `accelerate launch` every process calls this alike; only the first one writes, and reports progress.
    Raises DataError without examples, ModelError when the base can't be used, does not fit, or the loss is no longer
    a number (watch.NotFinite), UsageError for a report_to or an attention that is not installed.
    """
    import torch

    if not examples:
        raise DataError("There are no examples to train on: every problem was dropped. Raise train.sequence_len.")
    watch.reset_peak_memory()
    try:
        with nothing_kept(), attention.without_cudnn():
            facts = _train(
                model_dir, examples, tokenizer, settings, out, checkpoints, progress, start, num_processes, num_steps
            )
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise _does_not_fit(model_dir, error) from None  # the weights or the optimizer: steps care for themselves
    gc.collect()  # a GPU's memory is for the sampler next
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return facts


def _does_not_fit(model_dir: Path, error: RuntimeError) -> ModelError:
    return ModelError(
        f"{model_dir}: the model and its optimizer do not fit into memory ({str(error).splitlines()[0]}). Set "
        "train.quantization nf4 and train.optimizer paged_adamw_8bit, lower train.lora_r, or take a smaller base."
    )


def _train(
    model_dir: Path,
    examples: Sequence[Example],
    tokenizer: Any,
    settings: Training,
    out: Path,
    checkpoints: Path,
    progress: Progress,
    start: Path | None,
    num_processes: int,
    num_steps: int | None,
) -> dict[str, Any]:
    """Load the model, train it and save it; the model ends with this function."""
    from transformers import set_seed

    from qrft.training import replicas

    settings = settings.model_copy(update={"precision": model.precision_here(settings, model_dir)})
    if not keeps_apart(model_dir, settings):
        settings = settings.model_copy(update={"packing": False})
    steps = schedule.steps(
        len(examples), settings.batch_size, settings.num_epochs, settings.seed, num_steps or settings.num_steps
    )
    arguments = _arguments(settings, len(steps), checkpoints)  # before the model: it finds this process's device
    settings = _settled(settings, arguments)
    if arguments.should_save:
        tidy(checkpoints)
    set_seed(settings.seed)
    learner = model.load(model_dir, settings, _attention(model_dir, settings), start)
    trainer = _trainer(learner, examples, steps, settings, arguments, checkpoints, progress, num_processes)
    resume = last(checkpoints)
    with closing(trainer), replicas.threads(num_processes):
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        facts = _facts(trainer, examples)
    if trainer.is_world_process_zero():
        _save(learner, tokenizer, model_dir, settings, facts, out)
        if (checkpoints / LOGS).is_dir():
            shutil.copytree(checkpoints / LOGS, out / LOGS)
    trainer.accelerator.wait_for_everyone()
    return facts


def _is_known(model_dir: Path) -> bool:
    return is_supported(read_json(model_dir / "config.json"))


def keeps_apart(model_dir: Path, settings: Training) -> bool:
    """Return whether the examples of a row learn what they learn alone. Of a model that qrft does not know that can't
    be told, and with longrope a long example changes how the positions of all others are turned."""
    if not _is_known(model_dir):
        return False
    rope = load_config(model_dir).rope_parameters or {}
    return rope.get("rope_type") != "longrope" or settings.sequence_len <= rope["original_max_position_embeddings"]


def _attention(model_dir: Path, settings: Training) -> str | None:
    """Return the implementation of attention; None: the model's own, of an architecture that qrft does not know."""
    import torch

    if not _is_known(model_dir):
        return None if settings.attention == "auto" else str(settings.attention)
    device, mixed = "cuda" if torch.cuda.is_available() else "cpu", settings.precision == "bfloat16"
    return attention.choose(settings.attention, attention.heads_of(model_dir), device, mixed)


def _arguments(settings: Training, num_steps: int, checkpoints: Path) -> TrainingArguments:
    """Return the Trainer's arguments: one item of its data is one optimizer step, one pass over them is the run."""
    import torch
    from transformers import TrainingArguments

    gpu = torch.cuda.is_available()
    # transformers' "constant" knows no warm-up.
    scheduler = "constant_with_warmup" if settings.lr_scheduler == "constant" else settings.lr_scheduler
    arguments = TrainingArguments(
        output_dir=str(checkpoints / WRITING),
        num_train_epochs=1,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=scheduler,
        warmup_steps=math.ceil(settings.warmup_ratio * num_steps),
        weight_decay=settings.weight_decay,
        optim=OPTIMIZERS[memory.optimizer_name(settings, gpu)],
        bf16=settings.precision == "bfloat16",
        use_cpu=not gpu,
        seed=settings.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,  # such a loss stops the run
        save_strategy="no",  # a callback asks for checkpoints, by the clock
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        report_to=list(settings.report_to) or "none",
        trackio_space_id=None,  # what is logged stays here
        disable_tqdm=True,
        log_level="error",
    )
    _ = arguments.device  # counts the GPUs
    arguments._n_gpu = 1  # of several without `accelerate launch` one is used, and the model not copied to the others
    return arguments


def _settled(settings: Training, arguments: TrainingArguments) -> Training:
    """Return the settings with the optimizer named: of several processes the first one's, since all must use the same.

    Each of them has fitted its settings to the memory that it found free.
    """
    from accelerate.utils import broadcast_object_list
    from transformers.training_args import OptimizerNames

    if arguments.world_size > 1:
        [arguments.optim] = broadcast_object_list([arguments.optim])
    names = {value: name for name, value in OPTIMIZERS.items()}
    return settings.model_copy(update={"optimizer": names[OptimizerNames(arguments.optim).value]})


def _trainer(
    learner: Any,
    examples: Sequence[Example],
    steps: list[list[int]],
    settings: Training,
    arguments: TrainingArguments,
    checkpoints: Path,
    progress: Progress,
    num_processes: int,
) -> StepTrainer:
    from transformers.integrations.integration_utils import TensorBoardCallback
    from transformers.trainer_callback import PrinterCallback

    from qrft.training.step_trainer import StepTrainer

    loss.install(learner)
    step_tokens = [sum(len(examples[i].token_ids) for i in step) for step in steps]
    told = watch.Watch(progress, step_tokens)
    try:
        trainer = StepTrainer(
            examples, steps, settings, told, checkpoints, num_processes, model=learner, args=arguments
        )
    except RuntimeError as error:
        if "requires" not in str(error) or not settings.report_to:
            raise
        names = ", ".join(settings.report_to)
        raise UsageError(f"train.report_to: found {names}, not all of them installed ({error}).") from None
    trainer.remove_callback(PrinterCallback)
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback):
            callback.logging_dir = str(checkpoints / LOGS)  # where they outlive a stop
    return trainer


def _facts(trainer: StepTrainer, examples: Sequence[Example]) -> dict[str, Any]:
    # The rows that a checkpoint kept have their keys in another order.
    rows = [row for row in trainer.state.log_history if "loss" in row]
    losses = [{"step": row["step"], "loss": row["loss"], **dict(sorted(row.items()))} for row in rows]
    last = [row["loss"] for row in losses[-LAST_STEPS:]]
    told, num_steps = trainer.watch, len(trainer.train_dataset)
    return {
        "losses": losses,
        "final_loss": sum(last) / len(last),
        "num_examples": len(examples),
        "num_steps": num_steps,
        "num_tokens": sum(told.step_tokens),
        "num_trained": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "seconds": told.elapsed(),
        "tokens_per_second": sum(told.step_tokens) / told.elapsed(),
        "padding_share": told.padding_share(),
        "peak_memory_bytes": trainer.peak_memory(),
        "row_tokens": trainer.capacity,
        **trainer.chosen,
        "num_out_of_memory": trainer.num_out_of_memory,
    }


def _save(
    learner: Any, tokenizer: Any, model_dir: Path, settings: Training, facts: Mapping[str, Any], out: Path
) -> None:
    loss.undo(learner)
    if settings.adapter == "none":
        model.save_whole(learner, tokenizer, model_dir, out)
    else:
        lora.save(learner, out, card.hub_name(model_dir) or model_dir.name)
    card.write(out, model_dir, settings, facts)
    for weights in out.glob("*.safetensors"):  # their library keeps them from everyone else on the machine
        shutil.copymode(out / card.FILE, weights)
