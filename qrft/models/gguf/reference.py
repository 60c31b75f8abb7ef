"""Compute transformers' logits with one block of the model in memory at a time.

The modules are transformers' and peft's own, made without weights. Each block is given its weights in float32, all
prompts pass through it one after the other, and the weights are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qrft.errors import ModelError
from qrft.models.architectures import ARCHITECTURES, architecture_name
from qrft.models.json_file import read_json
from qrft.models.loading import adapter_settings, model_without_weights
from qrft.models.weights import TensorRef, open_weights, read_tensor

if TYPE_CHECKING:
    from torch import Tensor

Logits = NDArray[np.float32]  # (tokens, vocabulary)
_HEAD_ELEMENTS = 2**24  # of the head that are in memory at a time, 64 MiB: a whole one may take more than a block
_ADAPTER_PREFIX, _ADAPTER = "base_model.model.", ".default"  # what peft's files and its modules add to a name
_EMBEDDINGS = "model.embed_tokens"


class Reference:
    """The logits of `prompts` (token ids) by transformers, in float32, unquantised, with a peft adapter on.

    Opening it takes the prompts through all blocks: memory is 4 bytes for each parameter of the largest block. The
    logits are made when they are asked for. Raises ModelError for a folder that lacks weights, or is of an architecture
    that qrft does not export.
    """

    def __init__(self, model_dir: Path, adapter_dir: Path | None, prompts: list[list[int]]) -> None:
        self._folders = model_dir, adapter_dir
        self._model = _without_weights(model_dir, adapter_dir)
        self._refs: dict[str, TensorRef] = open_weights(model_dir)
        if adapter_dir is not None:
            self._refs |= open_weights(adapter_dir, "adapter_model")
        self._states = self._run_blocks(prompts)

    def logits(self) -> Iterator[Logits]:
        """Yield the logits of each prompt."""
        import torch

        for states in self._states:
            with torch.inference_mode():
                yield self._run_head(states)

    def _run_blocks(self, prompts: list[list[int]]) -> list[Tensor]:
        """Return the states of each prompt (tokens, width) after the last block and its norm."""
        import torch

        with torch.inference_mode():
            begun = [self._begin(prompt) for prompt in prompts]
            states = [state for state, _ in begun]
            for number in range(self._model.config.num_hidden_layers):
                states = self._run(f"model.layers.{number}", states, [calls[number] for _, calls in begun])
            return [state[0] for state in self._run("model.norm", states, [{}] * len(states))]

    def _run(self, module: str, states: list[Tensor], calls: list[dict[str, Any]]) -> list[Tensor]:
        """Take the states of all prompts through a module, whose weights are in memory meanwhile and no longer."""
        from torch.func import functional_call

        weights, part = self._read(module), self._model.get_submodule(module)
        return [functional_call(part, weights, (state,), call) for state, call in zip(states, calls, strict=True)]

    def _begin(self, prompt: list[int]) -> tuple[Tensor, list[dict[str, Any]]]:
        """Return the embedded prompt, and what transformers gives to each block beside it: its mask, its rotations."""
        import torch

        calls: list[dict[str, Any]] = []
        begun: list[Tensor] = []  # what the first block is given: Granite scales the embeddings on the way

        def record(states: Tensor, **call: Any) -> Tensor:
            begun.append(states)
            calls.append(call)
            return states

        backbone = self._model.model
        modules = [*backbone.layers, backbone.norm]
        for module in modules:
            module.forward = record
        try:
            embedded = torch.from_numpy(self._read_tensor(f"{_EMBEDDINGS}.weight", np.asarray(prompt)))[None]
            embedded *= getattr(backbone.embed_tokens, "scalar_embed_scale", 1.0)  # Gemma's
            backbone(inputs_embeds=embedded, use_cache=False)
        finally:
            for module in modules:
                del module.forward
        return begun[0], calls

    def _run_head(self, states: Tensor) -> Logits:
        """Return the logits (tokens, vocabulary) of states (tokens, width), by some rows of the head at a time."""
        from torch.func import functional_call

        size, step = self._model.config.vocab_size, max(1, _HEAD_ELEMENTS // states.shape[1])
        logits = np.empty((len(states), size), np.float32)
        for first in range(0, size, step):
            rows = slice(first, min(first + step, size))
            logits[:, rows] = functional_call(self._model.lm_head, self._read("lm_head", rows), (states,)).numpy()
        return self._ended(logits)

    def _ended(self, logits: Logits) -> Logits:
        """Return the logits after what some models do with them: Granite divides them, Gemma 2 caps them."""
        config = self._model.config
        logits /= getattr(config, "logits_scaling", None) or 1.0
        if cap := getattr(config, "final_logit_softcapping", None):
            logits = np.tanh(logits / cap) * np.float32(cap)
        return logits

    def _read(self, module: str, rows: slice | None = None) -> dict[str, Tensor]:
        """Read the weights of a module by their names in it. `rows`: of the matrices with a row for each token."""
        import torch

        weights, size = {}, self._model.config.vocab_size
        for name, parameter in self._model.get_submodule(module).named_parameters():
            ref_name = self._ref_name(f"{module}.{name}")
            self._check(ref_name, tuple(parameter.shape))
            has_tokens = parameter.shape[0] == size
            weights[name] = torch.from_numpy(self._read_tensor(ref_name, rows if has_tokens else None))
        return weights

    def _ref_name(self, name: str) -> str:
        """Return a parameter's name in the files."""
        if ".lora_" in name:
            return _ADAPTER_PREFIX + name.replace(_ADAPTER, "")
        if name.startswith("lm_head.") and self._model.config.tie_word_embeddings:
            return f"{_EMBEDDINGS}.weight"
        return name.replace(".base_layer.", ".")

    def _read_tensor(self, name: str, rows: slice | NDArray[np.int64] | None) -> NDArray[np.float32]:
        return read_tensor(name, self._refs[name], rows)

    def _check(self, name: str, expected: tuple[int, ...]) -> None:
        found = self._refs[name].shape if name in self._refs else "no such tensor"
        if found != expected:
            raise ModelError(
                f"{self._folders[name.startswith(_ADAPTER_PREFIX)]}: {name} is {found}, transformers' model has "
                f"{expected}. Give a whole model, saved by save_pretrained, and an adapter that was trained on it."
            )


def _without_weights(model_dir: Path, adapter_dir: Path | None) -> Any:
    """Return transformers' model, with peft's layers where an adapter is given, whose parameters hold no numbers."""
    name = architecture_name(read_json(model_dir / "config.json"))
    if name not in ARCHITECTURES:
        raise ModelError(
            f"{model_dir / 'config.json'}: llama.cpp can't be compared with transformers for {name}, only for "
            f"{', '.join(ARCHITECTURES)}. Sample it without the comparison."
        )
    model = model_without_weights(model_dir)
    if adapter_dir is not None:
        from peft import inject_adapter_in_model

        settings = adapter_settings(adapter_dir)
        settings.inference_mode = True
        inject_adapter_in_model(settings, model, low_cpu_mem_usage=True)
    return model.eval()
