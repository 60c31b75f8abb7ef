"""Packing changes nothing that a step learns from: rows, attention and loss against the same examples one by one."""

from __future__ import annotations

import functools
import inspect
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import kernels, models, rounding
from helpers.jsonl import read_jsonl
from helpers.paths import published
from helpers.trainings import changed as settings_with
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from qrft.errors import UsageError
from qrft.models import prompts
from qrft.models.find import BUILTIN
from qrft.models.prompts import Example
from qrft.training import attention, loss, trainer
from qrft.training.packing import collate, pack

AS_OTHERS = {"phi3", "smollm3", "olmo2"}  # in what concerns training; some examples are too long for the first
KINDS = [*(kind for kind in models.KINDS if kind not in AS_OTHERS), "mistral-short-window", "qwen2-short-window"]
# Lengths and prompt lengths: one token of completion, one of prompt, no prompt, and no completion at all.
SHAPES = [(30, 10), (150, 70), (7, 1), (64, 63), (12, 0), (9, 9)]


def make_examples(shapes: list[tuple[int, int]] = SHAPES) -> list[Example]:
    draw = random.Random(0)
    return [Example([draw.randrange(models.VOCAB) for _ in range(length)], prompt) for length, prompt in shapes]


@pytest.fixture(autouse=True)
def trial() -> None:
    """Forget what the last test's kernel was found to be."""
    attention.varlen_fault.cache_clear()
    attention._names_groups.cache_clear()


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Any]:
    """A model of a kind, with an attention, in float32."""
    windows: dict[str, tuple[str, dict[str, Any]]] = {
        "mistral-short-window": ("mistral", {"sliding_window": 20}),  # shorter than most examples
        "qwen2-short-window": (
            "qwen2-tied",
            {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1},  # in the second layer only
        ),
    }
    folder = tmp_path_factory.mktemp("models")

    def model(kind: str, implementation: str) -> Any:
        from transformers import AutoModelForCausalLM

        if not (folder / kind).exists():
            base, changes = windows.get(kind, (kind, {}))
            models.make_model(folder / kind, base, **changes)
        return AutoModelForCausalLM.from_pretrained(
            folder / kind, attn_implementation=implementation, dtype=torch.float32
        )

    return model


def one_by_one(model: Any, examples: list[Example]) -> torch.Tensor:
    """The loss as a text book has it: every example alone, all logits, torch's cross-entropy; gradients in .grad."""
    total = torch.zeros((), dtype=torch.float64)
    for token_ids, prompt_length in examples:
        logits = model(input_ids=torch.tensor([token_ids]), use_cache=False).logits[0, :-1]
        labels = torch.tensor([-100] * prompt_length + token_ids[prompt_length:])[1:]
        summed = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        summed.backward()
        total += summed.item()
    return total


def assert_same_gradients(model: Any, expected: Any, tolerance: float = 2e-5) -> None:
    """Every gradient, relative to the largest entry of its tensor."""
    gradients = {name: p.grad for name, p in expected.named_parameters() if p.requires_grad}
    assert gradients
    for name, parameter in model.named_parameters():
        if name in gradients:
            largest = gradients[name].abs().max().item()
            assert largest > 0, name
            difference = (parameter.grad - gradients[name]).abs().max().item()
            assert difference <= tolerance * largest, (name, difference, largest)


# Rows


@given(st.lists(st.integers(1, 300), max_size=200), st.integers(1, 256))
def test_every_example_is_in_one_row_and_rows_keep_to_the_capacity(lengths: list[int], capacity: int) -> None:
    rows = pack(lengths, capacity)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(row for row in rows)
    assert all(sum(lengths[i] for i in row) <= capacity or len(row) == 1 for row in rows)
    assert rows == pack(lengths, capacity)


@given(st.lists(st.integers(1, 20), max_size=60), st.integers(1, 24))
def test_rows_are_those_of_best_fit_decreasing(lengths: list[int], capacity: int) -> None:
    filled: list[int] = []
    for length in sorted(lengths, reverse=True):
        fits = [row for row, total in enumerate(filled) if total + length <= capacity]
        if fits:
            filled[max(fits, key=lambda row: filled[row])] += length
        else:
            filled.append(length)
    rows = pack(lengths, capacity)
    assert sorted(sum(lengths[i] for i in row) for row in rows) == sorted(filled)


def test_a_hundred_thousand_examples_are_packed_at_once() -> None:
    draw = random.Random(0)
    lengths = [draw.randint(20, 8000) for _ in range(100_000)]
    start = time.process_time()
    pack(lengths, 8192)
    assert time.process_time() - start < 10  # a fifth of a second; quadratic would be minutes


def test_gsm8k_in_rows_of_2048_leaves_under_3_percent_empty() -> None:
    tokenizer = prompts.load_tokenizer(BUILTIN["tiny-base"])
    rows = read_jsonl(published("gsm8k/train.jsonl"))
    lengths = [
        sum(len(ids) for ids in tokenizer([row["question"], row["answer"]], add_special_tokens=False)["input_ids"]) + 2
        for row in rows
    ]
    packed = pack(lengths, 2048)
    empty = 1 - sum(lengths) / (2048 * len(packed))
    assert empty < 0.03


def test_a_row_says_where_its_examples_and_their_completions_are() -> None:
    row = collate([Example([5, 6, 7, 8], 2), Example([9, 10, 11], 0), Example([12, 13], 2)])
    assert row["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10, 11, 12, 13]]
    assert row["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2, 0, 1]]
    assert row["cu_seq_lens_q"].tolist() == row["cu_seq_lens_k"].tolist() == [0, 4, 7, 9]
    assert row["cu_seq_lens_q"].dtype == torch.int32
    assert row["max_length_q"] == row["max_length_k"] == 4
    assert row["example_lengths"] == [4, 3, 2]
    assert row["logits_to_keep"].tolist() == [1, 2, 4, 5]
    assert row["targets"].tolist() == [7, 8, 10, 11]


# Attention


@pytest.mark.parametrize(
    ("kind", "implementation"),
    [
        (kind, way)
        for kind in KINDS
        for way in (attention.PER_EXAMPLE, "eager", "sdpa")
        if (kind, way) != ("gemma2", "sdpa")
    ],
)
def test_a_packed_row_learns_what_its_examples_learn_one_by_one(
    load: Callable[[str, str], Any], kind: str, implementation: str
) -> None:
    attention.register()
    if kind == "gemma2" and implementation == attention.PER_EXAMPLE:
        implementation = attention.CAPPED
    examples = make_examples()
    model, reference = load(kind, implementation), load(kind, "eager")
    loss.install(model)
    packed = loss.completion_loss(model, collate(examples))
    packed.backward()
    assert packed.item() == pytest.approx(one_by_one(reference, examples).item(), rel=1e-6)
    assert_same_gradients(model, reference)


def use_kernel(monkeypatch: pytest.MonkeyPatch, kernel: Callable[..., Any]) -> None:
    """Put a kernel in the place of torch's varlen_attn, which runs on CUDA alone; arguments must fit torch's own."""
    from torch.nn.attention import varlen

    signature = inspect.signature(varlen.varlen_attn)

    @functools.wraps(varlen.varlen_attn)
    def checked(*arguments: Any, **named: Any) -> Any:
        signature.bind(*arguments, **named)
        return kernel(*arguments, **named)

    monkeypatch.setattr(varlen, "varlen_attn", checked)
    attention.varlen_fault.cache_clear()  # of another kernel


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "gemma2"])
def test_one_call_of_varlen_per_layer_learns_the_same(
    load: Callable[[str, str], Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention.register()
    calls: list[int] = []

    def counted(*arguments: Any, **named: Any) -> Any:
        calls.append(len(arguments[3]) - 1)
        return kernels.varlen_attn(*arguments, **named)

    use_kernel(monkeypatch, counted)
    examples = make_examples()
    model, reference = load(kind, attention.VARLEN), load(kind, "eager")
    loss.install(model)
    packed = loss.completion_loss(model, collate(examples))
    packed.backward()
    assert calls == [len(examples)] * model.config.num_hidden_layers
    assert packed.item() == pytest.approx(one_by_one(reference, examples).item(), rel=1e-6)
    assert_same_gradients(model, reference)


@pytest.mark.parametrize("kind", models.OTHERS)
def test_any_other_causal_model_learns_from_its_own_logits(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    models.make_other(tmp_path, kind)
    example = make_examples()[0]
    model, reference = (AutoModelForCausalLM.from_pretrained(tmp_path) for _ in range(2))
    loss.install(model)
    found = loss.completion_loss(model, collate([example]))
    found.backward()
    assert found.item() == pytest.approx(one_by_one(reference, [example]).item(), rel=1e-6)
    assert_same_gradients(model, reference)
    loss.undo(model)
    assert model(input_ids=torch.tensor([example.token_ids])).logits.shape == (1, 30, models.VOCAB)


def test_longrope_packs_no_examples_that_may_be_longer_than_it_was_before_the_stretch(tmp_path: Path) -> None:
    for kind, length, packs in (("phi3", 128, True), ("phi3", 129, False), ("phi4", 500, True)):
        folder = tmp_path / kind
        if not folder.exists():
            models.make_model(folder, kind)
        assert trainer.keeps_apart(folder, settings_with(sequence_len=length)) == packs
    models.make_other(tmp_path / "other", "GPTNeoX")
    assert not trainer.keeps_apart(tmp_path / "other", settings_with(sequence_len=64))


def test_a_model_that_caps_its_scores_gets_no_kernel_that_would_not(load: Callable[[str, str], Any]) -> None:
    heads = attention.heads_of(Path(load("gemma2", "eager").name_or_path))
    assert heads.has_cap and not attention.heads_of(Path(load("gemma3", "eager").name_or_path)).has_cap
    assert attention.choose("auto", heads) == attention.choose("sdpa", heads) == attention.CAPPED
    with pytest.raises(UsageError, match="found varlen, which needs"):
        attention.choose("varlen", heads, "cuda", mixed=True)


def test_varlen_gets_16_bits_where_the_model_computes_them_in_part(
    load: Callable[[str, str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With autocast, weights that learn leave norms, embeddings and rotary positions in float32."""
    attention.register()
    seen = []

    def typed(*arguments: Any, **named: Any) -> Any:
        seen.append(arguments[0].dtype)
        return kernels.varlen_attn(*arguments, **named)

    use_kernel(monkeypatch, typed)
    losses = []
    for name in (attention.VARLEN, attention.PER_EXAMPLE):
        model = load("qwen3", name)
        loss.install(model)
        with torch.autocast("cpu", torch.bfloat16):
            losses.append(loss.completion_loss(model, collate(make_examples())).item())
    assert set(seen) == {torch.bfloat16}
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


GPU_ATTENTION = {
    "flex_attention": "torch's flex attention has no gradient on the CPU",
    "flash_attention_2": "flash-attn runs on CUDA only",
    "flash_attention_3": "flash-attn runs on CUDA only",
    "varlen": "torch's varlen_attn runs on CUDA only",
}


@pytest.mark.parametrize("implementation", GPU_ATTENTION)
@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_row_learns_the_same_on_a_gpu(load: Callable[[str, str], Any], kind: str, implementation: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip(GPU_ATTENTION[implementation])
    heads = attention.heads_of(Path(load(kind, "eager").name_or_path))
    try:
        implementation = attention.choose(implementation, heads, "cuda", mixed=True)
    except UsageError as error:
        pytest.skip(str(error))
    flash = implementation != "flex_attention"
    examples = make_examples()
    model, reference = load(kind, implementation).cuda(), load(kind, "eager")
    if flash:  # it takes 16 bits only
        model = model.bfloat16()
    loss.install(model)
    row = {name: v.cuda() if isinstance(v, torch.Tensor) else v for name, v in collate(examples).items()}
    packed = loss.completion_loss(model, row)
    packed.backward()
    expected = one_by_one(reference, examples).item()
    assert packed.item() == pytest.approx(expected, rel=2e-2 if flash else 1e-4)
    assert_same_gradients(model.float().cpu(), reference, 0.2 if flash else 1e-3)


@pytest.mark.parametrize("kind", ["llama-tied", "mistral-short-window"])
def test_no_example_sees_another(load: Callable[[str, str], Any], kind: str) -> None:
    """Other tokens in one example: the hidden states of all the others keep their bits."""
    attention.register()
    model = load(kind, attention.PER_EXAMPLE)
    loss.install(model)
    examples = make_examples([(20, 5), (40, 5), (31, 5)])
    for changed in range(3):
        others = list(examples)
        others[changed] = Example([(t + 1) % models.VOCAB for t in examples[changed].token_ids], 5)
        with torch.no_grad():
            before, after = (model(**collate(row), use_cache=False).logits[0] for row in (examples, others))
        sizes = [len(e.token_ids) - 5 for e in examples]
        for index, (a, b) in enumerate(zip(before.split(sizes), after.split(sizes), strict=True)):
            assert torch.equal(a, b) == (index != changed)


def test_a_batch_that_is_not_packed_is_refused(load: Callable[[str, str], Any]) -> None:
    attention.register()
    model = load("llama-tied", attention.PER_EXAMPLE)
    with pytest.raises(TypeError, match="example_lengths"):
        model(input_ids=torch.tensor([[1, 2, 3], [4, 5, 0]]), attention_mask=torch.tensor([[1, 1, 1], [1, 1, 0]]))


HEADS = attention.Heads(num_heads=4, num_kv_heads=2, head_dim=16)


def test_the_processor_takes_sdpa_example_by_example() -> None:
    assert attention.choose("auto", HEADS) == attention.choose("sdpa", HEADS) == attention.PER_EXAMPLE
    assert attention.choose("eager", HEADS) == "eager"
    for way in ("flash_attention_2", "flash_attention_3", "varlen"):
        with pytest.raises(UsageError) as error:
            attention.choose(way, HEADS, "cpu")
        assert str(error.value) == (
            f"train.attention: found {way}, which needs a CUDA device; there is none. Use auto or sdpa."
        )


@pytest.mark.parametrize(
    ("installed", "is_hopper", "varlen_runs", "mixed", "chosen"),
    [
        ("", False, True, True, attention.VARLEN),
        ("", True, True, True, attention.VARLEN),
        ("3", True, True, True, "flash_attention_3"),
        ("3", False, True, True, attention.VARLEN),
        ("2", False, True, True, attention.VARLEN),
        ("2", False, False, True, "flash_attention_2"),
        ("", False, False, True, attention.PER_EXAMPLE),
        ("23", True, True, False, attention.PER_EXAMPLE),
    ],
)
def test_a_gpu_takes_the_first_way_that_runs_there(
    monkeypatch: pytest.MonkeyPatch, installed: str, is_hopper: bool, varlen_runs: bool, mixed: bool, chosen: str
) -> None:
    from transformers.utils import import_utils

    for version in "23":
        monkeypatch.setattr(import_utils, f"is_flash_attn_{version}_available", lambda v=version: v in installed)
    monkeypatch.setattr(attention, "_is_hopper", lambda device: is_hopper)
    monkeypatch.setattr(attention, "varlen_fault", lambda *_: "" if varlen_runs else "a kernel, which fails here")
    assert attention.choose("auto", HEADS, "cuda", mixed) == chosen
    assert attention.choose("sdpa", HEADS, "cuda", mixed) == attention.PER_EXAMPLE
    asked = {"varlen": attention.VARLEN, "flash_attention_3": "flash_attention_3"}
    runs = {"varlen": varlen_runs and mixed, "flash_attention_3": "3" in installed and mixed}
    for way, name in asked.items():
        if runs[way]:
            assert attention.choose(way, HEADS, "cuda", mixed) == name
        else:
            with pytest.raises(UsageError, match=f"found {way}, which needs (a kernel|the package|bfloat16)"):
                attention.choose(way, HEADS, "cuda", mixed)


def test_a_model_with_dropout_in_its_attention_does_without_varlen() -> None:
    with pytest.raises(UsageError, match=r"needs a model without dropout in its attention; config\.json has 0\.1"):
        attention.choose("varlen", HEADS._replace(dropout=0.1), "cuda", mixed=True)


@pytest.mark.parametrize("kind", ["mistral-short-window", "llama-head-dim"])
def test_heads_are_read_from_the_configuration(load: Callable[[str, str], Any], kind: str) -> None:
    model = load(kind, "eager")
    config = model.config
    expected = (config.num_attention_heads, config.num_key_value_heads, config.head_dim, "window" in kind, 0.0, False)
    assert attention.heads_of(Path(model.name_or_path)) == expected


@pytest.mark.parametrize("has_window", [False, True])
def test_varlen_is_tried_before_it_is_taken(monkeypatch: pytest.MonkeyPatch, has_window: bool) -> None:
    heads = HEADS._replace(has_window=has_window)
    use_kernel(monkeypatch, kernels.varlen_attn)
    assert attention.varlen_fault(heads, "cpu") == ""

    def one_too_many(*arguments: Any, window_size: tuple[int, int], **named: Any) -> Any:
        left, right = window_size
        return kernels.varlen_attn(*arguments, window_size=(left + 1, right if left > 0 else 1), **named)

    def not_a_number(query: Any, *arguments: Any, **named: Any) -> Any:
        attended = kernels.varlen_attn(query, *arguments, **named)
        attended.register_hook(lambda gradient: gradient * float("nan"))
        return attended

    for wrong in (one_too_many, not_a_number):
        use_kernel(monkeypatch, wrong)
        assert attention.varlen_fault(heads, "cpu") == "torch's varlen_attn, whose results are wrong here"


def test_varlen_of_an_earlier_torch_is_not_told_of_grouped_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn.attention import varlen

    def earlier(query: Any, key: Any, *rest: Any, scale: float | None = None, window_size: tuple[int, int]) -> Any:
        is_grouped = query.shape[1] != key.shape[1]
        return kernels.varlen_attn(query, key, *rest, scale=scale, window_size=window_size, enable_gqa=is_grouped)

    monkeypatch.setattr(varlen, "varlen_attn", earlier)
    for heads in (HEADS, HEADS._replace(num_kv_heads=4)):
        assert attention.varlen_fault(heads, "cpu") == ""


def test_where_varlen_fails_its_own_words_are_told() -> None:
    """Torch's own kernel, on the processor, for which it is not made."""
    fault = attention.varlen_fault(HEADS, "cpu")
    assert fault.startswith("torch's varlen_attn, which fails here (") and "_flash_attention_forward" in fault


def test_cudnn_is_no_choice_of_sdpa_while_a_model_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers import trainings

    enabled = torch.backends.cuda.cudnn_sdp_enabled
    during = []
    trainings.train(models.make_model(tmp_path / "base"), tmp_path, lambda *_: during.append(enabled()), num_epochs=0.1)
    assert during and not any(during)
    assert enabled()


# Loss


def head_case(dtype: torch.dtype, trained: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Small multiples of 1/8: their products and sums are exact, so the logits have the same bits on any processor."""
    torch.manual_seed(0)
    hidden = (torch.randint(-12, 13, (57, 32)) / 8).to(dtype).requires_grad_()
    weight = (torch.randint(-12, 13, (211, 32)) / 8).to(dtype).requires_grad_(trained)
    return hidden, weight, torch.randint(0, 211, (57,))


def gradient_errors(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> list[torch.Tensor]:
    """Return by how much two computations of the gradients of `hidden` and `weight` may differ, entry by entry.

    The gradient of the logits is softmax minus one-hot. Of a sum of 211 exponentials, each good to 4 units in the last
    place, the softmax is good to 219 roundings. In bfloat16 that gradient, its product with each row, the sum of
    the products and its multiple are rounded to 8 bits, each perhaps to the neighbour.
    """
    last = 0.0 if hidden.dtype == torch.float32 else 2.0**-7
    with torch.no_grad():
        h, w = hidden.float(), weight.float()
        probabilities = (hidden @ weight.T).float().softmax(-1)
        off = probabilities - torch.nn.functional.one_hot(targets, 211)
        off_by = (211 + 8) * rounding.EPSILON * probabilities + 2 * last * off.abs()
        return [
            rounding.product_error(a, b) + da @ b.abs() + 2 * last * (a @ b).abs()
            for a, b, da in ((off, w, off_by), (off.T, h, off_by.T))
        ]


@pytest.mark.parametrize("chunk_elements", [1, 211 * 10, 2**24], ids=["by-row", "chunks", "one-chunk"])
@pytest.mark.parametrize("trained", [False, True], ids=["frozen-head", "trained-head"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_chunked_loss_is_torchs_own(dtype: torch.dtype, trained: bool, chunk_elements: int) -> None:
    hidden, weight, targets = head_case(dtype, trained)
    plain = torch.nn.functional.cross_entropy((hidden @ weight.T).float(), targets, reduction="sum")
    wanted = [hidden, weight] if trained else [hidden]
    expected = torch.autograd.grad(plain / 7, wanted)
    chunked = loss.cross_entropy_sum(hidden, weight, targets, chunk_elements)
    assert chunked.dtype == torch.float32
    assert chunked.item() == pytest.approx(plain.item(), rel=1e-5)
    found = torch.autograd.grad(chunked / 7, wanted)
    bounds = gradient_errors(hidden, weight, targets)[: len(wanted)]
    for ours, right, bound in zip(found, expected, bounds, strict=True):
        assert ours.dtype == dtype
        assert bound.max() / 7 < right.abs().max() / (1000 if dtype == torch.float32 else 20)
        assert ((ours.float() - right.float()).abs() <= bound / 7).all()


def test_a_weight_gradient_of_many_chunks_in_bfloat16_is_as_good_as_of_one() -> None:
    hidden, weight, targets = head_case(torch.bfloat16, trained=True)
    exact = torch.nn.functional.cross_entropy(hidden.double() @ weight.double().T, targets, reduction="sum")
    (right,) = torch.autograd.grad(exact, weight)
    errors = []
    for chunk_elements in (1, 2**24):
        (found,) = torch.autograd.grad(loss.cross_entropy_sum(hidden, weight, targets, chunk_elements), weight)
        errors.append((found.double() - right.double()).norm().item())
    assert errors[0] <= 1.2 * errors[1]


def test_how_many_chunks_there_are_changes_a_tokens_gradient_by_rounding_alone() -> None:
    """How a matrix product adds up may depend on how many rows it is given."""
    hidden, weight, targets = head_case(torch.float32, trained=False)
    whole, parts = (
        torch.autograd.grad(loss.cross_entropy_sum(hidden, weight, targets, n), hidden)[0] for n in (2**24, 211 * 10)
    )
    assert ((parts - whole).abs() <= gradient_errors(hidden, weight, targets)[0]).all()


def test_without_gradients_the_loss_is_the_same() -> None:
    hidden, weight, targets = head_case(torch.float32, trained=True)
    with torch.no_grad():
        evaluated = loss.cross_entropy_sum(hidden, weight, targets)
    assert evaluated.item() == loss.cross_entropy_sum(hidden, weight, targets).item()
    assert loss.cross_entropy_sum(hidden[:0], weight, targets[:0]).item() == 0


def test_autocast_multiplies_in_its_own_type() -> None:
    hidden, weight, targets = head_case(torch.float32, trained=True)
    plain = loss.cross_entropy_sum(hidden.bfloat16(), weight.bfloat16(), targets)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss.cross_entropy_sum(hidden, weight, targets)
    assert mixed.item() == plain.item()
    mixed.backward()
    assert hidden.grad is not None and hidden.grad.dtype == torch.float32


class LargestTensor(TorchDispatchMode):
    """Records the most elements of any tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("trained", [False, True], ids=["frozen-head", "trained-head"])
def test_no_tensor_holds_the_logits_of_all_targets(trained: bool) -> None:
    vocabulary, width, targets = 4001, 8, 500
    hidden = torch.randn(targets, width, requires_grad=True)
    weight = torch.randn(vocabulary, width, requires_grad=trained)
    with LargestTensor() as largest:
        loss.cross_entropy_sum(hidden, weight, torch.zeros(targets, dtype=torch.long), 20 * vocabulary).backward()
    assert largest.elements == max(20 * vocabulary, vocabulary * width)
    with LargestTensor() as largest:  # the check itself sees logits
        (hidden @ weight.T).sum().backward()
    assert largest.elements == targets * vocabulary


def test_no_tensor_holds_a_mask_or_the_logits_of_a_row(
    load: Callable[[str, str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    attention.register()
    model = load("llama-tied", attention.PER_EXAMPLE)
    loss.install(model)
    monkeypatch.setitem(loss.CHUNK_ELEMENTS, "cpu", 10 * models.VOCAB)
    row = collate(make_examples([(64, 8)] * 16))
    with LargestTensor() as largest:
        loss.completion_loss(model, row).backward()
    tokens = row["input_ids"].numel()
    assert largest.elements == tokens * 96  # the feed-forward layer; a mask has tokens * tokens, logits tokens * 300


LIGER = """
import torch
from qrft.training import loss

torch.manual_seed(0)
for rows, width, vocabulary, chunk in ((57, 32, 211, 211 * 10), (300, 8, 1000, 20_000), (1, 8, 1000, 1)):
    hidden = torch.randn(rows, width, requires_grad=True)
    weight = torch.randn(vocabulary, width, requires_grad=True)
    targets = torch.randint(0, vocabulary, (rows,))
    for wanted in ([hidden], [hidden, weight]):
        weight.requires_grad_(len(wanted) == 2)
        ours = loss.cross_entropy_sum(hidden, weight, targets, chunk)
        theirs = loss.liger_cross_entropy_sum(hidden, weight, targets, chunk)
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=0)
        gradients = [torch.autograd.grad(total / 7, wanted) for total in (ours, theirs)]
        torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)
print("equal")
"""


def test_ligers_kernel_computes_the_same_loss() -> None:
    """Its Triton kernel runs on the processor by Triton's interpreter, which has to be chosen before the import."""
    missing = [name for name in ("liger_kernel", "triton") if find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if loss._liger() is None:
        pytest.skip("this version of liger_kernel has no chunk_mem_const, so qrft does not use it")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", LIGER], capture_output=True, text=True, env=environment)
    assert done.stdout == "equal\n", done.stderr


def test_undo_gives_the_logits_back(load: Callable[[str, str], Any], tmp_path: Path) -> None:
    model = load("llama-untied-biases", "eager")
    ids = torch.tensor([[1, 2, 3]])
    logits, plain = model(ids).logits, model(ids, labels=ids).loss
    loss.install(model)
    loss.install(model)
    assert model(ids).logits.shape[-1] == 64
    model.save_pretrained(tmp_path)
    saved = type(model).from_pretrained(tmp_path, attn_implementation="eager", dtype=torch.float32)
    assert torch.equal(saved(ids).logits, logits)
    loss.undo(model)
    loss.undo(model)
    assert torch.equal(model(ids).logits, logits)
    assert torch.equal(model(ids, labels=ids).loss, plain)


# With what training puts around a model


def add_lora(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    lora = LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    return get_peft_model(model, lora)


def test_adapters_learn_the_same(load: Callable[[str, str], Any]) -> None:
    attention.register()
    examples = make_examples()
    model, reference = (add_lora(load("qwen3", name)) for name in (attention.PER_EXAMPLE, "eager"))
    loss.install(model)
    packed = loss.completion_loss(model, collate(examples))
    packed.backward()
    assert packed.item() == pytest.approx(one_by_one(reference, examples).item(), rel=1e-6)
    assert_same_gradients(model, reference)


@pytest.mark.parametrize("wrap", [lambda model: model, add_lora], ids=["full", "adapter"])
def test_gradient_checkpointing_changes_nothing(load: Callable[[str, str], Any], wrap: Callable[[Any], Any]) -> None:
    attention.register()
    row = collate(make_examples())
    found = []
    for checkpointing in (False, True):
        model = wrap(load("mistral-short-window", attention.PER_EXAMPLE)).train()
        loss.install(model)
        if checkpointing:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        loss.completion_loss(model, row).backward()
        found.append([p.grad for p in model.parameters() if p.requires_grad])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_4_bit_base_learns_the_same(load: Callable[[str, str], Any], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    attention.register()
    models.make_model(tmp_path, "llama-head-dim")
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    model, reference = (
        add_lora(
            AutoModelForCausalLM.from_pretrained(
                tmp_path, quantization_config=nf4, attn_implementation=name, dtype=torch.float32
            )
        )
        for name in (attention.PER_EXAMPLE, "eager")
    )
    loss.install(model)
    examples = make_examples()
    packed = loss.completion_loss(model, collate(examples))
    packed.backward()
    assert packed.item() == pytest.approx(one_by_one(reference, examples).item(), rel=1e-5)
    assert_same_gradients(model, reference, 1e-4)
