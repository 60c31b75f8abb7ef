"""The models of bench/gpu.py: random ones of real sizes, made on the GPU, or small ones for a rehearsal."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shapes

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.models import make_tokenizer

from qrft.models.gguf.adapter import export_adapter
from qrft.models.gguf.base import export_base
from qrft.models.prompts import Example

if TYPE_CHECKING:
    import sampling

# Tokens of GSM8K's training problems with their solutions, one token a digit: the least, each twentieth, the most.
GSM8K_TOKENS = (65, 95, 107, 115, 124, 131, 138, 145, 153, 161, 168, 177, 185, 196, 207, 218, 231, 248, 273, 310, 529)
SEQUENCE_LEN = 544
LORA_RANK = 32
REHEARSAL = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)


@dataclass(frozen=True)
class Scale:
    """How large the work of a part is."""

    is_rehearsal: bool
    cache: Path

    def size(self, whole: Any, small: Any) -> Any:
        """Return the second of two sizes in a rehearsal, else the first."""
        return small if self.is_rehearsal else whole

    def folder(self, name: str) -> Path:
        return self.cache / ("rehearsal" if self.is_rehearsal else "whole") / name


def qwen_config(scale: Scale) -> Any:
    """Qwen2.5-1.5B's shape, with its grouped heads and its vocabulary."""
    from transformers import Qwen2Config

    sizes = scale.size(shapes.QWEN["1.5B"], REHEARSAL | {"num_key_value_heads": 2, "tie_word_embeddings": True})
    vocabulary = scale.size(shapes.QWEN_VOCAB, 1000)
    return Qwen2Config(vocab_size=vocabulary, bos_token_id=0, eos_token_id=1, max_position_embeddings=4096, **sizes)


def llama_config(scale: Scale, num_layers: int | None = None) -> Any:
    """Llama 7B's shape."""
    from transformers import LlamaConfig

    sizes = dict(scale.size(shapes.LLAMA["7B"], REHEARSAL))
    sizes |= {"num_hidden_layers": num_layers or sizes["num_hidden_layers"]}
    return LlamaConfig(vocab_size=scale.size(shapes.LLAMA_VOCAB, 1000), bos_token_id=0, eos_token_id=1, **sizes)


def qwen(scale: Scale) -> Path:
    """Make the 1.5B in bfloat16 once. Its tokenizer is written last, and says that the folder is whole."""
    folder = scale.folder("qwen")
    if not (folder / "tokenizer.json").exists():
        shapes.save_bf16(folder, qwen_config(scale))
        make_tokenizer(folder)
    return folder


def llama_nf4(scale: Scale) -> Path:
    """Make the 7B with NF4 matrices once."""
    folder = scale.folder("llama-nf4")
    if not (folder / "tokenizer.json").exists():
        shapes.save_nf4(folder, **scale.size(shapes.LLAMA["7B"], REHEARSAL))
        make_tokenizer(folder)
    return folder


def qwen_gguf(scale: Scale) -> sampling.Model:
    """Make the 1.5B and its LoRA as f16 GGUF files once; "merged" is the base alone, which is as large and as fast."""
    import sampling  # it needs llama.cpp, without which there is training

    root, folder, config = scale.folder("qwen-gguf"), qwen(scale), qwen_config(scale)
    base, adapter = root / "base.gguf", root / "adapter"
    if not base.exists():
        _repeated(root, config, "f16")
        shapes.save_adapter(adapter, config, LORA_RANK)
        export_adapter(adapter, folder, root / "lora.gguf")
    num_new, num_prompts, n_vocab = scale.size(64, 8), scale.size(8, 2), config.vocab_size
    return sampling.Model("1.5B", folder, base, adapter, root / "lora.gguf", base, num_new, num_prompts, n_vocab)


def llama_gguf(scale: Scale) -> Path:
    """Make the 7B as a q8_0 GGUF file once."""
    root = scale.folder("llama-gguf")
    if not (root / "base.gguf").exists():
        _repeated(root, llama_config(scale), scale.size("q8_0", "f16"))
    return root / "base.gguf"


def _repeated(root: Path, config: Any, quant: Any) -> None:
    """Write base.gguf from a model of one layer, which takes seconds, with that layer as often as there are layers."""
    num_layers = config.num_hidden_layers
    one = type(config)(**config.to_dict() | {"num_hidden_layers": 1, "layer_types": None})
    shapes.save_bf16(root / "one", one)
    make_tokenizer(root / "one")
    export_base(root / "one", root / "one.gguf", quant)
    partial = root / "base.partial"
    shapes.repeat_layer(root / "one.gguf", partial, num_layers)
    partial.replace(root / "base.gguf")


def examples(number: int, vocab_size: int) -> list[Example]:
    """Random tokens with GSM8K's lengths, a third of each example its prompt; the same in every call."""
    draw = random.Random(0)
    made = []
    for _ in range(number):
        place, share = divmod(draw.uniform(0, len(GSM8K_TOKENS) - 1), 1)
        low, high = GSM8K_TOKENS[int(place)], GSM8K_TOKENS[min(int(place) + 1, len(GSM8K_TOKENS) - 1)]
        length = round(low + share * (high - low))
        made.append(Example([draw.randrange(2, vocab_size) for _ in range(length)], length // 3))
    return made
