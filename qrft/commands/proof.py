"""Whether what is exported answers as the model that was trained: it is loaded again, asked by its own template and
tokenizer, and its answers are compared token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qrft.errors import ModelError
from qrft.models import loading
from qrft.models.gguf.header import Precision, read_header
from qrft.models.gguf.own_prompts import own_prompts
from qrft.models.prompts import text_ids
from qrft.progress import Progress
from qrft.sampling.api import Completion, Request, Sampler, SamplingParams

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokens = list[int]
# How far apart the logits of two tokens may be that count as a tie: what rounding the weights to so many bits, and
# another order of sums, may change. A quantised file is only measured.
TIES: dict[Precision, float] = {"f32": 0.02, "f16": 0.1, "bf16": 0.5}


@dataclass(frozen=True)
class Question:
    """A question with what was trained: the prompt's ids, and the answer that the trained model gives."""

    text: str
    prompt: Tokens
    answer: Tokens


@dataclass(frozen=True)
class Proof:
    """How the answers of what is exported compare with those of the trained model.

    `num_same`: problems with the same tokens to the end. `num_ties`: those among the others whose first different
    token was as likely as the trained model's. `top1_agreement`: the share of the trained model's tokens that are the
    likeliest ones. `num_same_texts` of `num_texts` lines have the trained token ids in the file's own tokenizer.
    `difference`: the first prompt or line that has others.
    """

    num_problems: int
    num_same: int
    num_ties: int
    top1_agreement: float
    num_positions: int
    largest_gap: float = 0.0
    num_texts: int = 0
    num_same_texts: int = 0
    num_same_prompts: int = 0
    difference: str | None = None

    def as_facts(self) -> dict[str, Any]:
        return asdict(self)


def prove_gguf(
    file: Path,
    asked: Sequence[Question],
    params: SamplingParams,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    progress: Progress,
    num_threads: int | None = None,
) -> Proof:
    """Let llama.cpp answer from the file alone: its own chat template, tokenizer and ends. Raises ModelError where its
    prompts are not those of the training, and where a file of 16 bits and more answers otherwise but for ties."""
    from qrft.sampling.backends.llama_cpp.process import LlamaProcess

    own = own_prompts(file, [question.text for question in asked], texts)
    same = [
        question.prompt == applied == served
        for question, applied, served in zip(asked, own.prompts, own.served, strict=True)
    ]
    if not any(same):
        raise ModelError(
            f"{file.name}: its own tokenizer makes other token ids of the prompts than were trained: "
            f"{_shown(asked[0].prompt, own.prompts[0], own.served[0])}. Its rule that splits words is not known to "
            "llama.cpp, or not to qrft. Export the model with --to merged."
        )
    expected = [text_ids(tokenizer, text) for text in texts]
    alike = [one == other for one, other in zip(expected, own.texts, strict=True)]
    with LlamaProcess(file, n_threads=num_threads) as process:
        answers = _answers(process, own.prompts, params, own.ends, progress)
        proof = _compare(asked, own.prompts, answers, lambda ids: process.logits([ids])[0], read_header(file).precision)
    different = next((q.text for q, ok in zip(asked, same, strict=True) if not ok), None)
    different = different or next((text for text, ok in zip(texts, alike, strict=True) if not ok), None)
    return Proof(
        **{
            **proof.as_facts(),
            "num_texts": len(texts),
            "num_same_texts": sum(alike),
            "num_same_prompts": sum(same),
            "difference": different,
        }
    )


def prove_folder(
    folder: Path,
    base_dir: Path,
    asked: Sequence[Question],
    params: SamplingParams,
    ends: Sequence[int],
    progress: Progress,
    num_threads: int | None = None,
) -> Proof:
    """Let transformers answer from a folder, whose tokenizer has the chat template; an adapter's with its base.

    Raises ModelError as prove_gguf does.
    """
    import torch

    from qrft.sampling.backends.transformers.sampler import TransformersSampler

    is_adapter = (folder / "adapter_config.json").is_file()
    tokenizer = loading.load_tokenizer(folder)
    prompts = [_applied(tokenizer, question.text) for question in asked]
    for question, prompt in zip(asked, prompts, strict=True):
        if prompt != question.prompt:
            raise ModelError(
                f"{folder}: its tokenizer makes other token ids of a prompt than were trained: "
                f"{_shown(question.prompt, prompt)}. Report the model."
            )
    model, adapter = (base_dir, folder) if is_adapter else (folder, None)
    with TransformersSampler(model, adapter, n_threads=num_threads) as sampler:
        answers = _answers(sampler, prompts, params, ends, progress)

        def logits(ids: Tokens) -> NDArray[np.float32]:
            with torch.inference_mode():
                rows = sampler.model(input_ids=torch.tensor([ids], device=sampler.device)).logits[0]
            return np.asarray(rows.float().cpu().numpy())

        dtype = str(sampler.model.dtype).removeprefix("torch.")
        return _compare(asked, prompts, answers, logits, _precision(model, dtype))


def _precision(folder: Path, dtype: str) -> Precision:
    """Return the coarser of what the weights are stored in and what they are computed in."""
    from qrft.models.weights import open_weights

    kinds = {ref.dtype for ref in open_weights(folder).values()} | {dtype}
    if kinds & {"BF16", "bfloat16"}:
        return "bf16"
    return "f16" if kinds & {"F16", "float16"} else "f32"


def _applied(tokenizer: Any, text: str) -> Tokens:
    with loading.one_message(tokenizer.name_or_path, "its chat template can't be applied"):
        turns = [{"role": "user", "content": text}]
        return list(tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False))


def _answers(
    sampler: Sampler, prompts: Sequence[Tokens], params: SamplingParams, ends: Sequence[int], progress: Progress
) -> list[Tokens]:
    requests = [Request(str(number), prompt) for number, prompt in enumerate(prompts)]
    found: dict[int, Completion] = {}
    for number, completion in enumerate(sampler.generate(requests, params, ends), 1):
        found[int(completion.problem_id)] = completion
        progress(number, len(prompts), "")
    return [found[number].token_ids for number in range(len(prompts))]


def _compare(
    asked: Sequence[Question],
    prompts: Sequence[Tokens],
    answers: Sequence[Tokens],
    logits: Callable[[Tokens], NDArray[np.float32]],
    precision: Precision,
) -> Proof:
    agreed = positions = 0
    gaps = []
    for question, prompt, answer in zip(asked, prompts, answers, strict=True):
        rows = logits([*prompt, *question.answer])[len(prompt) - 1 : -1]
        agreed += int((rows.argmax(1) == np.asarray(question.answer)).sum())
        positions += len(question.answer)
        if answer != question.answer:
            gaps.append(_gap(rows, question.answer, answer))
    limit = TIES.get(precision)
    ties = sum(gap <= limit for gap in gaps) if limit is not None else 0
    if limit is not None and ties < len(gaps):
        raise ModelError(
            f"what was exported answers {len(gaps) - ties} of {len(asked)} problems otherwise than the model that was "
            f"trained, and not for a tie: two tokens are {max(gaps):.3g} apart, expected {limit:g} at most for "
            f"{precision}. Nothing was kept of it. Report the model."
        )
    return Proof(
        num_problems=len(asked),
        num_same=len(asked) - len(gaps),
        num_ties=ties,
        top1_agreement=agreed / max(1, positions),
        num_positions=positions,
        largest_gap=max(gaps, default=0.0),
        num_same_prompts=len(asked),
    )


def _gap(rows: NDArray[np.float32], expected: Tokens, found: Tokens) -> float:
    """Return how much likelier, in logits, the file's own token is where the two answers part."""
    pairs = zip(expected, found, strict=False)
    at = next((place for place, (one, other) in enumerate(pairs) if one != other), None)
    return float("inf") if at is None else float(abs(rows[at, found[at]] - rows[at, expected[at]]))


def _shown(expected: Tokens, *found: Tokens) -> str:
    other = next(ids for ids in found if ids != expected)
    at = next((i for i, pair in enumerate(zip(expected, other, strict=False)) if pair[0] != pair[1]), 0)
    return f"at token {at} {other[at : at + 4]}, expected {expected[at : at + 4]}"
