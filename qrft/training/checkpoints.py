"""Write checkpoints whole or not at all, and load them without a second copy of anything on the GPU."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrft.config.training import Training
from qrft.data.disk import hash_file, sync
from qrft.data.sealed import seal, unseal
from qrft.errors import ModelError

if TYPE_CHECKING:
    import torch

WRITING = "writing"  # where a checkpoint is written before it is published
WEIGHTS = "trained.safetensors"
OURS = "qrft.json"  # facts that the Trainer does not save
HASHES = "hashes.json"  # of all other files
log = logging.getLogger(__name__)


def tidy(folder: Path) -> None:
    """Make the folder, and remove what a kill left half-written or half-deleted in it."""
    shutil.rmtree(folder / WRITING, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)


def last(folder: Path) -> Path | None:
    """Return the newest checkpoint, if there is one. A damaged one is removed: going on from it would teach something
    else."""
    for path in sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]), reverse=True):
        if _is_whole(path):
            return path
        log.warning("%s: is damaged, so the training goes on from an earlier one or begins again", path)
        shutil.rmtree(path, ignore_errors=True)
    return None


def _is_whole(checkpoint: Path) -> bool:
    """Return whether every file is as it was published. Earlier versions kept no hashes."""
    record = checkpoint / HASHES
    try:
        return not record.exists() or all(
            hash_file(checkpoint / name) == found for name, found in unseal(record.read_bytes()).items()
        )
    except (OSError, ValueError):
        return False


def publish(written: Path, folder: Path) -> None:
    """Publish a checkpoint by one rename, then remove the older ones, so that one is whole at any moment."""
    (written / HASHES).write_text(seal({path.name: hash_file(path) for path in written.iterdir()}), encoding="utf-8")
    for path in (*written.iterdir(), written):
        sync(path)
    older = list(folder.glob("checkpoint-*"))
    os.replace(written, folder / written.name)
    sync(folder)
    for path in older:
        # Renamed first: a kill during the deletion must not leave half a checkpoint under its name.
        gone = folder / WRITING / f"old-{path.name}"
        os.replace(path, gone)
        shutil.rmtree(gone)


def save_weights(model: torch.nn.Module, folder: Path, facts: dict[str, Any]) -> None:
    """Write what is trained, and `facts`; the frozen base is not written again."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: p.detach() for name, p in model.named_parameters() if p.requires_grad}, folder / WEIGHTS)
    (folder / OURS).write_text(json.dumps(facts), encoding="utf-8")


def as_begun(settings: Training, folder: Path) -> Training:
    """Return the settings with what the training in the folder chose for itself where they say auto.

    Such keys decide what is learnt, so a training that goes on with less memory or elsewhere keeps its choices.
    """
    newest = last(folder)
    chosen = json.loads((newest / OURS).read_text(encoding="utf-8")).get("chosen", {}) if newest else {}
    return settings.model_copy(update={key: value for key, value in chosen.items() if getattr(settings, key) == "auto"})


def load_weights(model: torch.nn.Module, folder: Path) -> dict[str, Any]:
    """Copy the weights into the model's own tensors, one at a time; return the facts.

    Raises ModelError when the checkpoint belongs to another model.
    """
    import torch
    from safetensors import safe_open

    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with safe_open(folder / WEIGHTS, framework="pt") as file, torch.no_grad():
        saved = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        if saved != {name: list(p.shape) for name, p in trained.items()}:
            raise ModelError(
                f"{folder}: it belongs to a model with other trained weights. Delete the folder to start over."
            )
        for name, parameter in trained.items():
            parameter.copy_(file.get_tensor(name))
    facts: dict[str, Any] = json.loads((folder / OURS).read_text(encoding="utf-8"))
    return facts


def load_optimizer(optimizer: Any, path: Path) -> None:
    """Read the state into main memory, then put each tensor where a run that was never stopped would have it.

    bitsandbytes puts the state that it loads into plain GPU memory, paged or not: a run that only fits with its
    state paged out could not be resumed. So its paged buffers are made anew and filled.
    """
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    if not getattr(optimizer, "is_paged", False):
        optimizer.load_state_dict(state)
        return
    optimizer.load_state_dict(state, move_to_device=False)
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if not isinstance(value, torch.Tensor):
                continue
            if key in ("state1", "state2"):
                values[key] = optimizer.get_state_buffer(parameter, dtype=value.dtype).copy_(value)
            else:
                values[key] = value.to(parameter.device)
