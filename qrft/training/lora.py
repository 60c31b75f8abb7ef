"""Add LoRA adapters to a base, initialise them, and save them so that they fit the original base."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrft.config.training import Training
from qrft.errors import ModelError
from qrft.models.loading import load_adapter
from qrft.models.weights import open_weights, read_tensor

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Factors = tuple["torch.Tensor", "torch.Tensor"]  # A [r, in], B [out, r]
SVD_ITERATIONS = 16  # of the randomised SVD; PiSSA's authors find it as good as the exact one from here on


def add(base: PreTrainedModel, model_dir: Path, settings: Training, start: Path | None = None) -> Any:
    """Wrap the base with adapters in float32, freeze the rest, and return it with `initial_factors`, where they begin.

    The adapters are new, or those in the folder `start`, to be trained further.
    Raises ModelError when a target is not a layer of the model.
    """
    model: Any
    if start is None:
        model = _new(base, settings)
        model.initial_factors = _begin(model, model_dir, settings)
    else:
        model = load_adapter(base, start, is_trainable=True)
        model.initial_factors = {}  # the base is as it was
    for _, layer in _layers(model):
        layer.forward = partial(_forward, layer)
    return model


def _new(base: PreTrainedModel, settings: Training) -> Any:
    from peft import LoraConfig, get_peft_model

    targets = settings.target_modules
    lora = LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        use_rslora=settings.use_rslora,
        task_type="CAUSAL_LM",
    )
    _refuse_missing(base, targets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft uses an older name of transformers
        warnings.filterwarnings("ignore", "fan_in_fan_out")  # which it sets right for GPT-2's layers
        return get_peft_model(base, lora)


def _forward(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """Return W x + scale * B A x, adding in the last product itself and scaling where there are only r numbers.

    peft's own forward goes over the layer's output four times more: it copies, scales and adds it, and scales its
    gradient, which is a tenth of the time of a small model. Base and adapter are of one type, or under autocast.
    """
    import torch

    base: torch.Tensor = layer.base_layer(x)
    low = layer.lora_A["default"](layer.lora_dropout["default"](x)) * layer.scaling["default"]
    b = layer.lora_B["default"].weight
    return torch.addmm(base.flatten(0, -2), low.flatten(0, -2), b.T).view_as(base)


def _refuse_missing(base: PreTrainedModel, targets: Any) -> None:
    """Raise ModelError for a target that matches no layer, which peft ignores if others match."""
    import torch

    names = {name.rpartition(".")[2] for name, module in base.named_modules() if isinstance(module, torch.nn.Linear)}
    missing = [] if isinstance(targets, str) else [target for target in targets if target not in names]
    if missing or not names:
        raise ModelError(
            f"train.target_modules: {', '.join(missing) or targets} matches no linear layer of this model, which has "
            f"{', '.join(sorted(names)) or 'none'}. Use all-linear or names of these."
        )


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer))


def _begin(model: Any, model_dir: Path, settings: Training) -> dict[str, Factors]:
    """Initialise the adapters; return copies of their weights, by layer, if the base was changed by them.

    pissa: the r strongest directions of W; the base keeps the rest, quantised again (Meng et al., arXiv 2404.02948).
    loftq: the r strongest directions of what quantising W lost (Li et al., arXiv 2310.08659, one round).
    peft has both, but PiSSA not for a quantised base, LoftQ only on CUDA and without the adapter's scale.
    """
    import torch

    kind = settings.lora_init
    if kind == "default":
        return {}
    read = _original_weights(model_dir)
    began = {}
    for name, layer in _layers(model):
        weight = read(name.removeprefix("base_model.model.") + ".weight")
        base = layer.get_base_layer()
        with torch.no_grad():
            original = weight.to(base.weight.device, torch.float32)
            lost = original if kind == "pissa" else original - _dequantized(base.weight)
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            scale = layer.scaling["default"]
            _strongest(lost, a, b, scale)
            if kind == "pissa":
                _replace(base, original - scale * b @ a)
            began[name] = (a.detach().cpu().clone(), b.detach().cpu().clone())
    return began


def _strongest(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float) -> None:
    """Set the factors so that scale * b @ a is the best rank-r approximation of the weight [out, in]."""
    import torch

    rank = min(len(a), *weight.shape)  # rows beyond the weight's directions keep their default initialisation
    left, values, right = torch.svd_lowrank(weight, q=rank, niter=SVD_ITERATIONS)
    root = (values / scale).sqrt()
    a[:rank] = root[:, None] * right.T
    b[:, :rank] = left * root


def _dequantized(weight: Any) -> torch.Tensor:
    import bitsandbytes as bnb
    import torch

    values: torch.Tensor = bnb.functional.dequantize_4bit(weight.data, weight.quant_state)
    return values.to(torch.float32)


def _replace(layer: Any, weight: torch.Tensor) -> None:
    """Replace the weight [out, in] of a layer of the base, quantised as the layer is."""
    from bitsandbytes.nn import modules as bnb

    if not isinstance(layer, bnb.Linear4bit):
        layer.weight.data = weight.to(layer.weight.dtype)
        return
    quantized: Any = layer.weight
    state = quantized.quant_state
    again: Any = bnb.Params4bit(
        weight.to(state.dtype).cpu(),
        requires_grad=False,
        blocksize=state.blocksize,
        quant_type=state.quant_type,
        compress_statistics=state.nested,
        module=layer,
    )
    layer.weight = again.to(layer.weight.device)


def _original_weights(model_dir: Path) -> Callable[[str], torch.Tensor]:
    """Return a function that reads a weight of the base from its files by name.

    It raises ModelError when no file has the weight.
    """
    import torch

    refs = open_weights(model_dir)

    def read(name: str) -> torch.Tensor:
        if name not in refs:
            raise ModelError(
                f"{model_dir}: no *.safetensors file holds {name}, from which train.lora_init pissa and loftq begin. "
                "Use train.lora_init default."
            )
        return torch.from_numpy(read_tensor(name, refs[name]))

    return read


def save(model: Any, out: Path, base: str) -> None:
    """Write a plain LoRA of the original base, which `base` names: adapter_config.json, adapter_model.safetensors.

    The trained model is base + scale * (B A - B0 A0), with B0 A0 the product that it began with and that the base
    was changed by. Where that is not zero the adapter has both products, at twice the rank, the scale in B.
    """
    import torch
    from safetensors.torch import save_file

    tensors = {}
    for name, layer in _layers(model):
        a, b = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
        if name in model.initial_factors:
            a0, b0 = (factor.to(a.device) for factor in model.initial_factors[name])
            a, b = torch.cat([a, a0]), layer.scaling["default"] * torch.cat([b, -b0], dim=1)
        tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"] = a.contiguous(), b.contiguous()
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "adapter_model.safetensors", metadata={"format": "pt"})
    config = model.peft_config["default"].to_dict()
    if model.initial_factors:
        config |= {"r": 2 * config["r"], "lora_alpha": 2 * config["r"], "use_rslora": False}
    # peft keeps module names in sets, without an order; the same training must give the same file.
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    plain |= {"inference_mode": True, "base_model_name_or_path": base}
    (out / "adapter_config.json").write_text(json.dumps(plain, indent=2, sort_keys=True, default=str), encoding="utf-8")
