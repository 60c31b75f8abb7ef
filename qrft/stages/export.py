"""The base model, or an adapter for it, as a GGUF file that llama.cpp is shown to read as transformers does."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from qrft import prompts
from qrft.gguf.adapter import export_adapter
from qrft.gguf.base import export_base
from qrft.gguf.parity import check_parity
from qrft.stages import Config, Inputs, Progress, Report

VERSION = 1

NUM_PARITY_PROMPTS = 8
# The largest difference of a logit: float32 files differ by rounding alone, float16 ones also lose bits of the weights.
TOLERANCE = {"f32": 1e-2, "f16": 0.5}


def run(inputs: Inputs, out: Path, config: Config, progress: Progress) -> Report:
    """Writes base.gguf, or adapter.gguf when there is an adapter; raises ModelError when the logits disagree."""
    model = inputs["model"]
    adapter: Path | None
    adapter_gguf: Path | None
    if "adapter" in inputs:
        adapter = inputs["adapter"] / "adapter"
        base_gguf, adapter_gguf = inputs["base"] / "base.gguf", out / "adapter.gguf"
        progress(0, 2, "writing the adapter")
        export_adapter(adapter, model, adapter_gguf)
    else:
        adapter, adapter_gguf = None, None
        base_gguf = out / "base.gguf"
        progress(0, 2, "writing the base model")
        export_base(model, base_gguf, config["quant"])
    progress(1, 2, "comparing llama.cpp's logits with transformers'")
    tokenizer = prompts.load_tokenizer(model)
    questions = pq.read_table(inputs["problems"] / "problems.parquet")["question"][:NUM_PARITY_PROMPTS].to_pylist()
    ids = [prompts.prompt_ids(tokenizer, question, config["prompt"]) for question in questions]
    parity = check_parity(
        model,
        base_gguf,
        adapter,
        adapter_gguf,
        ids,
        tolerance=TOLERANCE[config["quant"]],
        n_threads=config["num_threads"],
    )
    progress(2, 2, f"logits within {parity['max_logit_difference']:.1e}")
    return dict(parity)
