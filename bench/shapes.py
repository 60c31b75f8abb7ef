"""The models that benchmarks train and sample: real shapes, random weights, written to a folder each."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LLAMA = {  # Llama 1 and 2
    "7B": dict(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32),
    "13B": dict(hidden_size=5120, intermediate_size=13824, num_hidden_layers=40, num_attention_heads=40),
    "33B": dict(hidden_size=6656, intermediate_size=17920, num_hidden_layers=60, num_attention_heads=52),
}
LLAMA_VOCAB = 32_000
QWEN = {  # Qwen2.5
    "1.5B": dict(
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    ),
    "7B": dict(
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
    ),
}
QWEN_VOCAB = 152_064
SMOL_VOCAB = 49_152


def save_smol(folder: Path) -> None:
    """SmolLM-135M's shape, in float32; no tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, max_position_embeddings=2048)
    heads = dict(num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1)
    LlamaForCausalLM(LlamaConfig(vocab_size=SMOL_VOCAB, **shape, **heads)).save_pretrained(folder)


def save_llama(folder: Path, hidden_size: int, num_layers: int, vocab_size: int) -> None:
    """A Llama of usual proportions, in float32; no tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    heads = max(1, hidden_size // 64)
    sizes = dict(
        hidden_size=hidden_size, intermediate_size=8 * hidden_size // 3 // 32 * 32, num_hidden_layers=num_layers
    )
    rest = dict(num_attention_heads=heads, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1)
    LlamaForCausalLM(LlamaConfig(vocab_size=vocab_size, **sizes, **rest)).save_pretrained(folder)


def save_tokenizer(folder: Path, texts: Iterable[str], vocab_size: int) -> None:
    """A byte-level BPE tokenizer of at most `vocab_size` tokens trained on `texts`, one token a digit."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)


def save_nf4(folder: Path, **shape: Any) -> None:
    """A random Llama whose matrices are NF4 with double quantisation already, as bitsandbytes saves them."""
    import torch
    from transformers import BitsAndBytesConfig, LlamaConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    config = LlamaConfig(vocab_size=LLAMA_VOCAB, bos_token_id=0, eos_token_id=1, dtype="bfloat16", **shape)
    _save_layers(folder, config, quantized=True)
    config.quantization_config = quantization.to_dict()
    config.save_pretrained(folder)


def save_bf16(folder: Path, config: Any) -> None:
    """A random model of this configuration, in bfloat16."""
    config.dtype = "bfloat16"
    _save_layers(folder, config, quantized=False)
    config.save_pretrained(folder)


def _save_layers(folder: Path, config: Any, quantized: bool) -> None:
    """Write the weights a layer at a time, all layers alike: never more than one in memory, no copy in 32 bits."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    config.architectures = [type(model).__name__]
    sizes = {name: tensor.shape for name, tensor in model.named_parameters()}  # tied heads are none
    torch.manual_seed(0)
    layer = "model.layers.0."
    first = {name: _random(size, quantized) for name, size in sizes.items() if name.startswith(layer)}
    parts = [
        {f"model.layers.{i}.{name.removeprefix(layer)}{end}": t for name, found in first.items() for end, t in found}
        for i in range(config.num_hidden_layers)
    ]
    outside = {name: size for name, size in sizes.items() if not name.startswith("model.layers.")}
    parts.append({name: t for name, size in outside.items() for _, t in _random(size, quantized=False)})
    where = {}
    for index, part in enumerate(parts):
        file = f"model-{index:05}.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in part.items()}, folder / file, {"format": "pt"})
        where |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def _random(size: Any, quantized: bool) -> list[tuple[str, Any]]:
    """A weight's tensors with the ends of their names: a norm's ones, or a random matrix."""
    import torch
    from bitsandbytes.functional import quantize_4bit

    if len(size) == 1:
        return [("", torch.ones(size, dtype=torch.bfloat16))]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    matrix = torch.randn(size, dtype=torch.bfloat16, device=device) * 0.02
    if not quantized:
        return [("", matrix.cpu())]
    codes, state = quantize_4bit(matrix, compress_statistics=True, quant_type="nf4")
    return [("", codes.cpu()), *((f".{name}", tensor.cpu()) for name, tensor in state.as_dict(packed=True).items())]


def save_adapter(folder: Path, config: Any, rank: int) -> None:
    """A random LoRA on all linear layers of a model of this configuration, as peft saves it; all layers alike."""
    import torch
    from safetensors.torch import save_file

    from qrft.models.architectures import ATTENTION
    from qrft.models.shape import shape_in

    torch.manual_seed(1)
    linear = shape_in(config.to_dict(), Path("config.json")).linear
    first = {
        name: (torch.randn(rank, ins) * 0.02, torch.randn(outs, rank) * 0.02) for name, (outs, ins) in linear.items()
    }
    tensors = {}
    for i in range(config.num_hidden_layers):
        for name, (a, b) in first.items():
            place = f"base_model.model.model.layers.{i}.{'self_attn' if name in ATTENTION else 'mlp'}.{name}"
            tensors[f"{place}.lora_A.weight"], tensors[f"{place}.lora_B.weight"] = a.clone(), b.clone()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    kind = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": ""}
    sizes = {"r": rank, "lora_alpha": rank, "target_modules": sorted(linear)}
    (folder / "adapter_config.json").write_text(json.dumps(kind | sizes))


def repeat_layer(one: Path, out: Path, num_layers: int) -> None:
    """Write the GGUF file of a model of one layer again, with that layer so many times: seconds for 7B, not minutes."""
    import gguf

    reader = gguf.GGUFReader(one)
    arch = str(reader.fields["general.architecture"].contents())
    writer = gguf.GGUFWriter(out, arch)
    for name, field in reader.fields.items():
        if name == "general.architecture" or name.startswith("GGUF."):
            continue
        value = num_layers if name == f"{arch}.block_count" else field.contents()
        is_array = field.types[0] == gguf.GGUFValueType.ARRAY
        writer.add_key_value(name, value, field.types[0], sub_type=field.types[-1] if is_array else None)
    layer = "blk.0."
    inside = [tensor for tensor in reader.tensors if tensor.name.startswith(layer)]
    written = [(tensor.name, tensor) for tensor in reader.tensors if not tensor.name.startswith(layer)]
    for i in range(num_layers):
        written += [(f"blk.{i}.{tensor.name.removeprefix(layer)}", tensor) for tensor in inside]
    for name, tensor in written:
        writer.add_tensor_info(name, tensor.data.shape, tensor.data.dtype, tensor.data.nbytes, tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, tensor in written:
        writer.write_tensor_data(tensor.data)
    writer.close()
