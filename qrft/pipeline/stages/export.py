"""A model, or an adapter for it, as a GGUF file, which is checked to give the same logits as transformers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from qrft.data.worked import gold_texts
from qrft.models import prompts
from qrft.models.gguf.adapter import export_adapter
from qrft.models.gguf.base import export_base
from qrft.models.gguf.header import check_base
from qrft.models.gguf.parity import MAX_TOKENS, check_parity
from qrft.models.gguf.prepare import VERSION, base_file, check_once
from qrft.models.gguf.quant import Comparison, Quant
from qrft.models.wording import Wording
from qrft.pipeline.stages import Inputs, Job, Report
from qrft.sampling.backends.llama_cpp import child

__all__ = ["VERSION", "Settings", "compare_again", "is_to_compare_again", "run"]

NUM_PARITY_PROBLEMS = 8
COMPARING = "comparing llama.cpp's logits with transformers'"
NOT_COMPARED = {"parity": "off"}  # what the report of a file says that was not compared
log = logging.getLogger(__name__)


class Settings(Wording):
    """The wording is that of the texts that are compared; `quant` is that of a base that is made here, None if none is.
    With an input `base` that is only where the adapter is merged, on a GPU."""

    quant: Quant | None = None
    parity: Comparison = "once"

    @property
    def runtime_keys(self) -> frozenset[str]:
        """The comparison decides nothing of the file."""
        return frozenset({"parity"})


class Files(NamedTuple):
    """The folder of the model, its GGUF file, and the same of an adapter that is applied to it or merged into it."""

    model: Path
    base_gguf: Path
    adapter: Path | None
    adapter_gguf: Path | None


def run(inputs: Inputs, out: Path, settings: Settings, job: Job) -> Report:
    """Write base.gguf, or adapter.gguf when the adapter is to be applied to the input `base`; neither for a ready
    `file`, which is used as it is. `tuned`: a training of every weight, whose model replaces the base.
    Raises ModelError when llama.cpp and transformers disagree."""
    files = _files(inputs, out, "base" in inputs and settings.quant is not None and child.has_gpu())
    job.progress(0, 2, "reading the file" if "file" in inputs else "writing the file")
    if "file" in inputs:
        check_base(files.base_gguf, files.model)
    elif files.adapter_gguf is not None:
        assert files.adapter is not None
        export_adapter(files.adapter, files.model, files.adapter_gguf)
    else:
        assert settings.quant is not None
        export_base(files.model, files.base_gguf, settings.quant, files.adapter, n_threads=job.num_threads)
    if settings.parity == "off":
        log.warning("llama.cpp was not compared with transformers (gguf.parity off)")
        job.progress(2, 2, "not compared")
        return {**NOT_COMPARED}
    job.progress(1, 2, COMPARING)
    texts = _texts(files.model, inputs["problems"], settings.wording)
    parity = check_parity(*files, texts, n_threads=job.num_threads)
    job.progress(2, 2, f"logits within {parity['max_logit_difference']:.1e}")
    return dict(parity)


def is_to_compare_again(settings: Settings, report: Mapping[str, Any]) -> bool:
    """Tell whether the files of a finished export, with its report, are compared before they are sampled from."""
    return settings.parity == "always" or (settings.parity == "once" and report == NOT_COMPARED)


def compare_again(inputs: Inputs, out: Path, settings: Settings, job: Job) -> None:
    """Compare the files of a finished export; once where `parity` says so. Raises ModelError when they disagree."""
    job.progress(0, 1, COMPARING)
    files = _files(inputs, out, (out / "base.gguf").exists())
    texts = _texts(files.model, inputs["problems"], settings.wording)
    parity = check_once(*files, texts, again=settings.parity == "always", n_threads=job.num_threads)
    job.progress(1, 1, f"logits within {parity['max_logit_difference']:.1e}")


def _files(inputs: Inputs, out: Path, is_merged: bool) -> Files:
    model = inputs["tuned"] / "model" if "tuned" in inputs else inputs["model"]
    adapter = inputs["adapter"] / "adapter" if "adapter" in inputs else None
    if "file" in inputs:
        return Files(model, inputs["file"], adapter, None)
    if "base" in inputs and not is_merged:
        return Files(model, base_file(inputs["base"]), adapter, out / "adapter.gguf")
    return Files(model, out / "base.gguf", adapter, None)


def _texts(model: Path, problems: Path, wording: Wording) -> list[list[int]]:
    """Return the token ids of problems with their solutions, which are what an adapter changes."""
    tokenizer = prompts.load_tokenizer(model)
    table = pq.read_table(problems / "problems.parquet")[:NUM_PARITY_PROBLEMS]
    pairs = zip(table["question"].to_pylist(), gold_texts(table).to_pylist(), strict=True)
    examples = [prompts.example(tokenizer, question, text, wording) for question, text in pairs]
    return [example.token_ids[:MAX_TOKENS] for example in examples]
