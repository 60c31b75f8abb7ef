"""A model, or an adapter for it, as a GGUF file, which is checked to give the same logits as transformers."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from qrft.config.section import Section
from qrft.data.worked import gold_texts
from qrft.models import prompts
from qrft.models.gguf.adapter import export_adapter
from qrft.models.gguf.base import export_base
from qrft.models.gguf.header import check_base
from qrft.models.gguf.parity import check_parity
from qrft.models.gguf.prepare import VERSION, base_file
from qrft.models.gguf.quant import Quant
from qrft.models.prompts import Prompt
from qrft.pipeline.stages import Inputs, Job, Report

__all__ = ["VERSION", "Settings", "run"]

NUM_PARITY_PROBLEMS = 8
MAX_PARITY_TOKENS = 256  # of one problem; their logits are in memory twice: 300 MB for a vocabulary of 150,000


class Settings(Section):
    """`prompt` words the texts that are compared; `quant` is that of a base that is made here, None if none is."""

    prompt: Prompt
    quant: Quant | None = None


def run(inputs: Inputs, out: Path, settings: Settings, job: Job) -> Report:
    """Write base.gguf, or adapter.gguf when there is an adapter to be applied to the input `base`; neither for a ready
    `file`, which is used as it is. `tuned`: a training of every weight, whose model replaces the base.
    Raises ModelError when llama.cpp and transformers disagree."""
    model = inputs["tuned"] / "model" if "tuned" in inputs else inputs["model"]
    adapter = inputs["adapter"] / "adapter" if "adapter" in inputs else None
    adapter_gguf: Path | None = None
    job.progress(0, 2, "reading the file" if "file" in inputs else "writing the file")
    if "file" in inputs:
        base_gguf = inputs["file"]
        check_base(base_gguf, model)
    elif "base" in inputs:
        assert adapter is not None
        base_gguf, adapter_gguf = base_file(inputs["base"]), out / "adapter.gguf"
        export_adapter(adapter, model, adapter_gguf)
    else:
        base_gguf = out / "base.gguf"
        assert settings.quant is not None
        export_base(model, base_gguf, settings.quant, adapter, n_threads=job.num_threads)
    job.progress(1, 2, "comparing llama.cpp's logits with transformers'")
    texts = _texts(model, inputs["problems"], settings.prompt)
    parity = check_parity(model, base_gguf, adapter, adapter_gguf, texts, n_threads=job.num_threads)
    job.progress(2, 2, f"logits within {parity['max_logit_difference']:.1e}")
    return dict(parity)


def _texts(model: Path, problems: Path, prompt: Prompt) -> list[list[int]]:
    """Return the token ids of problems with their solutions, which are what an adapter changes."""
    tokenizer = prompts.load_tokenizer(model)
    table = pq.read_table(problems / "problems.parquet")[:NUM_PARITY_PROBLEMS]
    pairs = zip(table["question"].to_pylist(), gold_texts(table).to_pylist(), strict=True)
    examples = [prompts.example(tokenizer, question, text, prompt) for question, text in pairs]
    return [example.token_ids[:MAX_PARITY_TOKENS] for example in examples]
