"""Small random-weight models, tokenizers and adapters, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qrft.models.gguf.adapter import export_adapter
from qrft.models.gguf.base import export_base

VOCAB = 300  # larger than the tokenizer's, as padded embeddings are

_COMMON: dict[str, Any] = dict(
    vocab_size=VOCAB,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    initializer_range=0.25,  # large, so that logits differ and a fault in any part shows
    bos_token_id=0,
    eos_token_id=1,
    pad_token_id=1,
)

# Gemma's window is shorter than a prompt, so that both kinds of layers show.
GEMMA: dict[str, Any] = dict(head_dim=32, query_pre_attn_scalar=32, sliding_window=16, tie_word_embeddings=True)
LONGROPE: dict[str, Any] = dict(
    rope_type="longrope",
    rope_theta=10000.0,
    partial_rotary_factor=0.75,
    original_max_position_embeddings=128,
    long_factor=[1.0 + i / 2 for i in range(6)],
    short_factor=[1.0 + i / 8 for i in range(6)],
)

LLAMA3: dict[str, Any] = dict(
    rope_type="llama3",
    rope_theta=5000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)

# name -> (architecture, what is special about it)
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-tied": ("Llama", {"tie_word_embeddings": True}),
    "llama-untied-biases": ("Llama", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4}),
    "llama-head-dim": ("Llama", {"head_dim": 32, "num_key_value_heads": 1}),
    "llama3-rope": ("Llama", {"rope_parameters": LLAMA3}),
    "linear-rope": ("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}}),
    "mistral": ("Mistral", {"sliding_window": 100}),
    "qwen2-tied": (
        "Qwen2",
        {"tie_word_embeddings": True, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    ),
    "qwen3": ("Qwen3", {"head_dim": 32}),
    "gemma2": ("Gemma2", {**GEMMA, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0}),
    "gemma3": ("Gemma3Text", {**GEMMA, "num_hidden_layers": 6}),
    "phi3": (
        "Phi3",
        {"rope_parameters": LONGROPE, "original_max_position_embeddings": 128, "tie_word_embeddings": True},
    ),
    "phi4": ("Phi3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.75}}),
    "smollm3": ("SmolLM3", {"num_hidden_layers": 4}),
    "olmo2": ("Olmo2", {}),
    "granite": (
        "Granite",
        {
            "attention_bias": True,
            "embedding_multiplier": 3.0,
            "logits_scaling": 2.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.1,
        },
    ),
}


def make_model(folder: Path, kind: str = "llama-tied", **changes: Any) -> Path:
    """Saves a model of one of KINDS with a tokenizer of its own. `changes` go into its config."""
    import torch
    import transformers

    architecture, special = KINDS[kind]
    config = getattr(transformers, f"{architecture}Config")(**{**_COMMON, **special, **changes})
    torch.manual_seed(0)
    model = getattr(transformers, f"{architecture.removesuffix('Text')}ForCausalLM")(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:  # transformers makes these 0 and 1: a lost one would not show
                parameter.add_(torch.randn_like(parameter) * 0.3)
    # Shards, so that their index is read too.
    model.save_pretrained(folder, max_shard_size="100KB" if kind == "qwen3" else "1GB")
    make_tokenizer(folder)
    return folder


# Causal models of transformers that qrft has no export of: learned positions, none, a part of each head turned, a head
# whose logits are scaled.
OTHERS: dict[str, dict[str, Any]] = {
    "GPT2": {},
    "Bloom": {},
    "GPTNeoX": {"intermediate_size": 96},
    "Cohere": {"intermediate_size": 96, "num_key_value_heads": 2},
}


def make_other(folder: Path, kind: str) -> Path:
    """Saves a model of one of OTHERS with a tokenizer."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = dict(vocab_size=VOCAB, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, bos_token_id=0)
    config = getattr(transformers, f"{kind}Config")(**sizes, eos_token_id=1, pad_token_id=1, **OTHERS[kind])
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    make_tokenizer(folder)
    return folder


def make_tokenizer(folder: Path) -> None:
    """A byte-level BPE tokenizer of fewer than VOCAB tokens; <s> is 0, </s> is 1."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - 10,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Tom has 12 apples and gives 5 of the apples to Ann. " * 3], trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    wrapped.save_pretrained(folder)


def make_adapter(folder: Path, model_dir: Path, **changes: Any) -> Path:
    """Saves a LoRA on all linear layers with random factors, neither of them 0. `changes` go into its LoraConfig."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    settings: dict[str, Any] = dict(r=4, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(model_dir), LoraConfig(**{**settings, **changes}))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return folder


def whole_model_logits(folder: Path, adapter: Path | None, prompts: list[list[int]]) -> list[Any]:
    """Returns transformers' logits of each prompt, with the whole model in memory in float32."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    with torch.inference_mode():
        return [model.eval()(input_ids=torch.tensor([prompt])).logits[0].numpy() for prompt in prompts]


def make_gguf_files(root: Path) -> tuple[Path, Path]:
    """Write a base and an adapter for it as GGUF files, and return both."""
    model = make_model(root / "model", "qwen3")
    export_base(model, root / "base.gguf")
    export_adapter(make_adapter(root / "adapter", model), model, root / "lora.gguf")
    return root / "base.gguf", root / "lora.gguf"
