"""peft's adapter_config.json: the settings that decide whether a GGUF adapter can hold an adapter exactly."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from qrft.errors import ModelError
from qrft.models.json_file import read_json

FILE = "adapter_config.json"

# Keys that must be empty, each with the reason.
_REFUSED = {
    "use_dora": "DoRA's magnitudes have no place in a GGUF adapter",
    "modules_to_save": "whole trained modules have no place in a GGUF adapter",
    "trainable_token_indices": "trained embeddings have no place in a GGUF adapter",
    "alpha_pattern": "a GGUF adapter has one alpha",
    "lora_bias": "trained biases have no place in a GGUF adapter",
    "target_parameters": "only linear layers can be exported",
    "layer_replication": "the base would need other layers",
    "fan_in_fan_out": "only linear layers that store (out, in) can be exported",
    "alora_invocation_tokens": "activated LoRA is on for a part of the tokens only",
    "use_qalora": "QALoRA pools its inputs",
    "use_bdlora": "block-diagonal factors can't be exported",
    "megatron_config": "Megatron layers can't be exported",
    "arrow_config": "routed adapters can't be exported",
    "velora_config": "VeLoRA can't be exported",
    "monteclora_config": "MonteCLoRA can't be exported",
    "kasa_config": "KaSA changes the base weights",
}
# Initialisations that change the base weights, so that the adapter fits another base than the one on disk.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_EMBEDDINGS = ("embed_tokens", "wte")


class AdapterConfig(BaseModel):
    """The keys that the export reads, with the defaults of peft's LoraConfig; `model_extra` holds all others."""

    model_config = ConfigDict(frozen=True, extra="allow")

    peft_type: str = "LORA"
    lora_alpha: float = 8
    use_rslora: bool = False
    rank_pattern: dict[str, int] | None = None
    bias: str = "none"
    init_lora_weights: bool | str | None = True
    target_modules: str | list[str] | None = None

    @property
    def named_targets(self) -> list[str]:
        """Return the modules that are named; a pattern may exclude what it spells, so the tensors say what it took."""
        return self.target_modules if isinstance(self.target_modules, list) else []


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Read the settings of the adapter in a peft folder, and check that it can be exported.

    Raises ModelError for a file that can't be read, a value of the wrong type, and what check_exportable refuses.
    """
    path = folder / FILE
    content = read_json(path)
    try:
        config = AdapterConfig.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        key = str(fault["loc"][0])
        raise ModelError(
            f"{path}: {key} = {content[key]!r} is not a value that peft's LoRA takes ({fault['msg']}). "
            "Save the adapter again."
        ) from None
    try:
        check_exportable(config)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    return config


def check_exportable(config: AdapterConfig) -> None:
    """Check that a GGUF adapter can hold an adapter of these settings exactly. Raises ModelError that names the key."""
    if config.peft_type != "LORA":
        raise _refusal("peft_type", config.peft_type, "only LoRA can be exported")
    for key, reason in _REFUSED.items():
        if value := (config.model_extra or {}).get(key):
            raise _refusal(key, value, reason)
    if config.bias != "none":
        raise _refusal("bias", config.bias, "trained biases have no place in a GGUF adapter")
    if config.use_rslora and config.rank_pattern:
        raise _refusal("rank_pattern", config.rank_pattern, "rsLoRA with several ranks would need several alphas")
    if config.lora_alpha == 0:
        raise _refusal("lora_alpha", 0, "llama.cpp reads it as 'no scaling'")
    init = config.init_lora_weights
    if isinstance(init, str) and init.lower().startswith(_CHANGES_BASE):
        raise _refusal("init_lora_weights", init, "it changes the base weights")
    for target in config.named_targets:
        if any(name in target for name in _EMBEDDINGS):
            raise _refusal("target_modules", target, "trained embeddings have no place in a GGUF adapter")


def _refusal(key: str, value: object, reason: str) -> ModelError:
    return ModelError(f"{key} = {value!r} can't be exported to GGUF: {reason}. Train the adapter without it.")
