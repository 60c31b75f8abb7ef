"""Run transformers' Trainer with the optimizer step as its unit. It is heavy: import it where training begins."""

from __future__ import annotations

import gc
import logging
import math
import random
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from qrft.config.training import Training
from qrft.errors import ModelError
from qrft.machine import is_out_of_memory
from qrft.models.prompts import Example
from qrft.training import checkpoints, packing, schedule
from qrft.training.loss import completion_loss
from qrft.training.replicas import Replicas
from qrft.training.watch import NotFinite, Watch, peak_memory

log = logging.getLogger(__name__)


class StepTrainer(Trainer):
    """A Trainer whose data set is the list of steps; each packs its examples into rows and goes over them.

    The loss of a step is the mean over all its completion tokens, however they are spread over rows and processes.
    So neither packing nor the number of processes changes what is learnt, and a step that ran out of memory can be
    done again in smaller rows.
    """

    # The base class leaves open whether these are there.
    model: Any
    optimizer: Any
    lr_scheduler: Any
    train_dataset: Any

    def __init__(
        self,
        examples: Sequence[Example],
        schedule: list[list[int]],
        settings: Training,
        watch: Watch,
        folder: Path,
        num_processes: int = 1,
        **arguments: Any,
    ) -> None:
        self.examples, self.watch, self.folder = examples, watch, folder
        self.lengths = [len(example.token_ids) for example in examples]
        # Tokens in a row. Without packing each example is a row of its own.
        self.capacity = settings.micro_batch_size * settings.sequence_len // num_processes if settings.packing else 1
        self.num_processes = num_processes
        self.replicas: Replicas | None = None  # from the first step on, if there are several processes
        self.num_out_of_memory = 0
        self.row: list[int] = []  # what is in the model now
        self.checkpoint_seconds = 60 * settings.checkpoint_minutes
        # What a training that goes on must choose alike.
        self.chosen = settings.model_dump(include={"optimizer", "precision"})
        super().__init__(train_dataset=schedule, callbacks=[_EveryStep(self)], **arguments)
        if settings.neftune_noise_alpha:
            self.noise_alpha = settings.neftune_noise_alpha
            self.accelerator.unwrap_model(self.model).get_input_embeddings().register_forward_hook(self._add_noise)

    def get_train_dataloader(self) -> DataLoader[list[int]]:
        """Return all steps in order, for every process; it takes its share of each in `training_step`."""
        return DataLoader(self.train_dataset, batch_size=1, collate_fn=_only)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Leave the gradient of a step in the parameters; return its loss, in nats per completion token.

        inputs: the indices of the step's examples.
        Raises NotFinite before the weights change, and ModelError when one example alone does not fit into memory.
        """
        indices: list[int] = inputs
        accelerator = self.accelerator
        mine = schedule.shares(indices, self.lengths, accelerator.num_processes)[accelerator.process_index]
        num_targets = sum(_num_targets(self.examples[i]) for i in indices)
        # Gradients are summed below and not by DistributedDataParallel on the way: a process that does a step again
        # would leave the others waiting within it.
        with accelerator.no_sync(model):
            while (loss := self._try_together(model, mine, num_targets)) is None:
                self._make_rows_smaller()
        if accelerator.num_processes > 1:
            self._sum_over_processes(loss)
        value = loss.item()
        self._refuse_not_finite(value, "loss")
        self.watch.last_loss = value
        return loss

    def close(self) -> None:
        """End the replicas."""
        if self.replicas is not None:
            self.replicas.close()

    def peak_memory(self) -> int:
        """Return the bytes that this process took at most, and its replicas beside what they share with it."""
        return peak_memory() + (self.replicas.peak_memory() if self.replicas is not None else 0)

    def _try_together(self, model: Any, indices: Sequence[int], num_targets: int) -> torch.Tensor | None:
        """Compute the step in this process and its replicas, each a part; return the loss, or None as `_try_step`."""
        if self.num_processes == 1:
            return self._try_step(model, indices, num_targets)
        if self.replicas is None:
            parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            self.replicas = Replicas(self.num_processes - 1, parameters, partial(self._replicate, model))
        own, *others = schedule.shares(indices, self.lengths, self.num_processes)
        step, capacity = self.state.global_step, self.capacity
        self.replicas.begin([(step, i, other, num_targets, capacity) for i, other in enumerate(others)])
        loss = self._try_step(model, own, num_targets)
        for part, num_real, num_computed, row in self.replicas.gather():
            if part is None:
                loss, self.row = None, row
            if loss is None:
                continue
            loss += part
            self.watch.num_real += num_real
            self.watch.num_computed += num_computed
        return loss

    def _replicate(
        self, model: Any, step: int, number: int, indices: Sequence[int], num_targets: int, capacity: int
    ) -> tuple[float | None, int, int, list[int]]:
        """Compute a part of the step in a replica; return its loss, its tokens, those computed, and its last row."""
        # Dropout's and the noise's own stream: the same for a run that was resumed.
        torch.manual_seed(random.Random(f"{self.args.seed} {step} {number}").getrandbits(63))
        self.capacity = capacity
        watch = self.watch
        real, computed = watch.num_real, watch.num_computed
        loss = self._try_step(model, indices, num_targets)
        part = None if loss is None else loss.item()
        return part, watch.num_real - real, watch.num_computed - computed, self.row

    def _try_step(self, model: Any, indices: Sequence[int], num_targets: int) -> torch.Tensor | None:
        """Return the loss; None means out of memory. The exception ends here: its frames hold what is to be freed."""
        loss = torch.zeros((), device=self.args.device)
        num_computed = 0
        try:
            for row in packing.pack([self.lengths[i] for i in indices], self.capacity):
                self.row = [indices[i] for i in row]
                self.pack = self._prepare_inputs(packing.collate([self.examples[i] for i in self.row]))
                part = completion_loss(model, self.pack) / num_targets
                self.accelerator.backward(part)
                loss += part.detach()
                num_computed += self.pack["input_ids"].numel()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None
        finally:
            self.pack = {}
        self.watch.num_real += sum(self.lengths[i] for i in indices)
        self.watch.num_computed += num_computed
        return loss

    def _make_rows_smaller(self) -> None:
        self.model.zero_grad()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        num_tokens = sum(self.lengths[i] for i in self.row)
        if len(self.row) == 1:
            raise ModelError(
                f"Step {self.state.global_step + 1}: not even one example of {num_tokens} tokens fits into memory. "
                "Lower train.sequence_len or train.lora_r, or set train.gradient_checkpointing true, "
                "train.quantization nf4 or train.optimizer paged_adamw_8bit."
            )
        self.num_out_of_memory += 1
        self.capacity = num_tokens // 2  # half of what the row held: half of the old might change nothing
        step = self.state.global_step + 1
        log.warning("Step %s ran out of memory: rows of at most %s tokens from here on", step, f"{self.capacity:,}")

    def _sum_over_processes(self, loss: torch.Tensor) -> None:
        torch.distributed.all_reduce(loss)
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                if parameter.grad is None:  # there were fewer examples than processes
                    parameter.grad = torch.zeros_like(parameter)
                torch.distributed.all_reduce(parameter.grad)

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        self._refuse_not_finite(float(norm), "gradient")
        return norm

    def _refuse_not_finite(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            step = self.state.global_step
            raise NotFinite(what, step + 1, self.train_dataset[step], self.watch.last_loss)

    def _add_noise(self, module: torch.nn.Module, _: Any, embedded: torch.Tensor) -> torch.Tensor:
        """Add NEFTune's noise (Jain et al., arXiv 2310.05914), uniform in alpha / sqrt(length * width) of each example.

        The Trainer's own would take the packed row for one long example, and make less noise.
        """
        if not module.training:
            return embedded
        lengths = torch.tensor(self.pack["example_lengths"], device=embedded.device)
        size = self.noise_alpha / (lengths * embedded.shape[-1]).sqrt()
        noise = torch.empty_like(embedded).uniform_(-1, 1)
        noisy: torch.Tensor = embedded + noise * size.repeat_interleave(lengths)[None, :, None].to(embedded.dtype)
        return noisy

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write a row of loss.jsonl. The Trainer's epoch is a share of all steps; the row's is one of the examples."""
        done = self.state.global_step
        logs = {"step": done, **logs}
        if "loss" in logs:
            steps_per_epoch = math.ceil(len(self.examples) / len(self.train_dataset[0]))
            logs |= {"epoch": done / steps_per_epoch, "tokens": self.watch.step_tokens[done - 1]}
            logs["tokens_per_second"] = self.watch.tokens_per_second(done)
        self.state.log_history.append(logs)
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # the Trainer's estimate wants a padded batch

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoints.publish(Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}", self.folder)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.args.should_save:
            told = {"seconds": self.watch.elapsed(), "last_loss": self.watch.last_loss}
            facts = {"capacity": self.capacity, "chosen": self.chosen, **told}
            checkpoints.save_weights(self.model, Path(str(output_dir)), facts)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        facts = checkpoints.load_weights(self.model, Path(resume_from_checkpoint))
        # Rows that were too large once would be so again.
        self.capacity = min(self.capacity, facts["capacity"])
        self.watch.seconds, self.watch.last_loss = facts["seconds"], facts["last_loss"]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            checkpoints.load_optimizer(self.optimizer.optimizer, Path(checkpoint) / "optimizer.pt")
            self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / "scheduler.pt", weights_only=True))


class _EveryStep(TrainerCallback):
    """A callback that reports each step, and asks for a checkpoint by the clock."""

    def __init__(self, trainer: StepTrainer) -> None:
        self.trainer = trainer
        self.saved = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.model.train()  # a base is loaded for inference, whatever peft's wrapper of it says
        self.trainer.watch.begin(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self.trainer.watch.report(state.global_step)
        control.should_save = self._is_due()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.saved = time.monotonic()

    def _is_due(self) -> bool:
        """Tell whether a checkpoint is due. Of several processes the first one's clock decides: it takes them all."""
        is_due: bool = time.monotonic() - self.saved > self.trainer.checkpoint_seconds
        if self.trainer.accelerator.num_processes == 1:
            return is_due
        flag = torch.tensor(float(is_due), device=self.trainer.args.device)
        torch.distributed.broadcast(flag, src=0)
        return bool(flag)


def _only(batch: list[list[int]]) -> list[int]:
    return batch[0]


def _num_targets(example: Example) -> int:
    return len(example.token_ids) - max(1, example.prompt_length)
