"""Open an untrusted model folder with transformers and peft. Only this file calls their loaders.

A folder is data: no code that it brings or names runs, weights come from safetensors alone, nothing is asked on the
terminal and nothing is fetched. Whatever a library raises for it becomes one message.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from qrft.errors import ModelError, QrftError
from qrft.machine import is_out_of_memory
from qrft.models.json_file import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_SAFE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
# Keys by which a config.json picks the code that computes attention and experts; a name with a slash is a package of
# the hub, which transformers would fetch and run.
_IMPLEMENTATIONS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
_SENTENCEPIECE = ("sentencepiece", "google")  # the packages that read tokenizer.model; google is protobuf's
_SHOWN_CHARACTERS = 300
_WAY_OUT = "Download the folder again, or name another one."


@contextmanager
def one_message(place: object, fault: str, way_out: str = _WAY_OUT) -> Iterator[None]:
    """Turn any error of a library on an untrusted file into a ModelError; a lack of memory is passed on.

    A panic of a library in Rust is no Exception, but a BaseException of its own.
    """
    try:
        yield
    except (QrftError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        if isinstance(error, Exception) and "torch" in sys.modules and is_out_of_memory(error):
            raise
        reason = next(filter(None, (line.strip() for line in str(error).splitlines())), "no reason given")
        shown = f"{type(error).__name__}: {reason[:_SHOWN_CHARACTERS]}"
        raise ModelError(f"{place}: {fault} ({shown}). {way_out}") from error


def load_config(folder: Path) -> Any:
    """Return transformers' configuration of a model, with its defaults filled in. Raises ModelError."""
    from transformers import AutoConfig

    path = folder / "config.json"
    content = read_json(path)
    for key in _IMPLEMENTATIONS:
        if "/" in str(content.get(key)):
            raise ModelError(
                f"{path}: {key} = {content[key]!r} names code of the hub, and no code that a model names is run. "
                "Remove the key."
            )
    with one_message(path, "transformers can't read it"):
        return AutoConfig.from_pretrained(folder, **_SAFE)


def check_tokenizer(folder: Path) -> None:
    """Raise ModelError for a tokenizer that only packages read which are not installed."""
    has_own = (folder / "tokenizer.model").is_file() and not (folder / "tokenizer.json").is_file()
    if has_own and not all(find_spec(name) for name in _SENTENCEPIECE):
        raise ModelError(
            f"{folder}: tokenizer.model, without a tokenizer.json, is read by the packages sentencepiece and protobuf. "
            "Install them with `pip install sentencepiece protobuf`, or save the tokenizer as tokenizer.json."
        )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return transformers' tokenizer of a folder. Raises ModelError."""
    from transformers import AutoTokenizer

    check_tokenizer(folder)
    way_out = "Expected tokenizer.json and tokenizer_config.json; download the model again or name another folder."
    with one_message(folder, "its tokenizer can't be read", way_out):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **_SAFE)
    return tokenizer


def model_without_weights(folder: Path) -> Any:
    """Return a causal language model whose parameters hold no numbers. Raises ModelError for a folder of none."""
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    config, auto = load_config(folder), cast(Any, AutoModelForCausalLM)
    way_out = "Expected the config.json of a causal language model; name another base model."
    with (
        one_message(folder / "config.json", "transformers can't make its model", way_out),
        init_empty_weights(include_buffers=False),  # rotary frequencies are computed, not read
    ):
        return auto.from_config(config, dtype=torch.float32, trust_remote_code=False)


def load_model(folder: Path, **how: Any) -> PreTrainedModel:
    """Return a causal language model; `how` goes to from_pretrained: dtype, device_map, attn_implementation, ...

    Raises ModelError for a folder that can't be loaded, and one whose files lack a weight, which transformers would
    fill with random numbers. torch's own error is passed on when memory runs out.
    """
    from transformers import AutoModelForCausalLM

    config, auto = load_config(folder), cast(Any, AutoModelForCausalLM)
    way_out = "Expected config.json and whole *.safetensors of a causal language model; download the model again."
    with one_message(folder, "transformers can't load it", way_out):
        model, info = auto.from_pretrained(
            folder, config=config, use_safetensors=True, output_loading_info=True, **_SAFE, **how
        )
    if missing := sorted(info["missing_keys"]):
        raise missing_weights(folder, missing)
    return cast("PreTrainedModel", model)


def load_gguf(file: Path, dtype: str) -> tuple[Any, Any]:
    """Return the causal language model in a GGUF file, unquantised and ready to be saved, and its tokenizer.

    dtype: torch's name of the numbers' type. Raises ModelError for a file that transformers can't dequantise.
    """
    import torch
    import transformers

    how: dict[str, Any] = {"gguf_file": file.name, **_SAFE}
    way_out = "Name the model's Hugging Face folder instead, or the GGUF file of another architecture."
    with one_message(file, "transformers can't dequantise it", way_out):
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(file.parent, **how)
        if hasattr(transformers, "GgufConfig"):  # without it older versions dequantise anyway
            how["quantization_config"] = transformers.GgufConfig(dequantize=True)
        auto: Any = transformers.AutoModelForCausalLM
        model = auto.from_pretrained(file.parent, dtype=getattr(torch, dtype), **how)
    model.hf_quantizer = None  # or it would refuse to be saved
    for config in (model.config, model.generation_config):
        vars(config).pop("quantization_config", None)
    return model, tokenizer


def missing_weights(folder: Path, names: list[str]) -> ModelError:
    """Return the error for a folder whose files lack these weights."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return ModelError(
        f"{folder}: its files lack {names[0]}{more}. Expected every weight of the model that config.json describes; "
        "download the folder again, or save the model whole with save_pretrained."
    )


def adapter_settings(folder: Path) -> Any:
    """Return peft's settings of an adapter. Raises ModelError."""
    from peft import PeftConfig

    path = folder / "adapter_config.json"
    if read_json(path).get("megatron_config"):
        raise ModelError(f"{path}: megatron_config names code, and no code that an adapter names is run. Remove it.")
    with one_message(path, "peft can't read it"):
        return PeftConfig.from_pretrained(str(folder))


def load_adapter(model: Any, folder: Path, *, is_trainable: bool = False) -> Any:
    """Return the model with the adapter in a folder, as peft's model. Raises ModelError."""
    from peft import PeftModel

    settings = adapter_settings(folder)
    settings.inference_mode = not is_trainable
    weights = folder / "adapter_model.safetensors"  # without it peft would take a pickle, or ask the hub
    if not weights.is_file():
        raise ModelError(f"{weights}: not found. Expected an adapter as peft saves it; save it again as safetensors.")
    with one_message(folder, "peft can't load it", "Expected an adapter that peft saved for this base."):
        return PeftModel.from_pretrained(model, str(folder), config=settings, is_trainable=is_trainable)
