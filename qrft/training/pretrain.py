"""Make a tiny base model from scratch: a tokenizer and a small Llama trained on the tiny corpus."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrft.data.disk import whole_file
from qrft.data.problems import tiny_corpus, tiny_math
from qrft.models.flops import training_flops
from qrft.models.prompts import load_tokenizer
from qrft.models.shape import shape_in
from qrft.progress import Progress
from qrft.training import text_loss

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from qrft.config.pretrain import PretrainRecipe

# llama.cpp's "llama-bpe" pre-tokenizer: numbers of up to 3 digits stay whole, so the GGUF splits text as HF does.
LLAMA_BPE = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TOKENIZER_DOCUMENTS = 8000
CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SECONDS = 60.0


def make_tokenizer(vocab_size: int, seed: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on the corpus and, for their line ends, on solutions of its stories."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(LLAMA_BPE), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_tokenizer_texts(seed), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        clean_up_tokenization_spaces=False,
    )


def _tokenizer_texts(seed: int) -> Iterator[str]:
    yield from itertools.islice(tiny_corpus.documents(seed), TOKENIZER_DOCUMENTS)
    yield from ("\n".join(map(str, range(300))) for _ in range(20))  # numbers as whole tokens
    for story in itertools.islice(tiny_math.stories("pretrain", seed), TOKENIZER_DOCUMENTS // 8):
        yield f"{story.question}\n{tiny_math.write_solution(story.paths[0])}"


def _batches(tokenizer: PreTrainedTokenizerFast, recipe: PretrainRecipe) -> Iterator[torch.Tensor]:
    """Yield endless [batch_size, context_length] blocks of token ids, documents one after the other."""
    import torch

    size = recipe.batch_size * recipe.context_length
    end = tokenizer.eos_token_id
    buffer: list[int] = []
    documents = tiny_corpus.documents(recipe.seed)
    while True:
        while len(buffer) < size:
            encoded = tokenizer(list(itertools.islice(documents, 256)))["input_ids"]
            buffer.extend(token for ids in encoded for token in [*ids, end])
        yield torch.tensor(buffer[:size]).view(recipe.batch_size, recipe.context_length)
        buffer = buffer[size:]


def make_model(recipe: PretrainRecipe, vocab_size: int) -> LlamaForCausalLM:
    """Make a Llama of the recipe's sizes, with random weights from the recipe's seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=recipe.hidden_size,
            intermediate_size=recipe.intermediate_size,
            num_hidden_layers=recipe.num_layers,
            num_attention_heads=recipe.num_heads,
            num_key_value_heads=recipe.num_heads,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )


def learning_rate_at(progress: float, peak: float, warmup: float) -> float:
    """Return a rate that rises linearly over the share `warmup` of the run, then falls as a cosine to 2% of peak."""
    if progress < warmup:
        return peak * progress / warmup
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))))


def pretrain(recipe: PretrainRecipe, out: Path, progress: Progress) -> dict[str, Any]:
    """Write the model (bfloat16 safetensors) and its tokenizer into `out`; return losses, tokens, FLOPs and seconds.

    Resumes from the checkpoint that a killed call left in `out`, and makes the same model. `final_loss` is the mean
    over the last 1% of the steps, in nats per token; `held_out` is what text_loss.measure finds on
    tiny_corpus.held_out.
    """
    import torch

    tokenizer = make_tokenizer(recipe.vocab_size, recipe.seed)
    model = make_model(recipe, len(tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.01)
    checkpoints = _Checkpoints(out / CHECKPOINT, recipe, model, optimizer)
    losses = _train(model, optimizer, _batches(tokenizer, recipe), recipe, checkpoints, progress)
    model.bfloat16().save_pretrained(out)
    tokenizer.save_pretrained(out)
    checkpoints.path.unlink(missing_ok=True)
    last = losses[-max(1, len(losses) // 100) :]
    num_tokens = len(losses) * recipe.batch_size * recipe.context_length
    return {
        "final_loss": sum(last) / len(last),
        "num_steps": len(losses),
        "num_tokens": num_tokens,
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "vocab_size": len(tokenizer),
        "flops": training_flops(shape_in(model.config.to_dict(), Path("config.json")), num_tokens),
        "seconds": checkpoints.seconds(),
        "held_out": held_out_loss(out, recipe.context_length),
    }


def _train(
    model: LlamaForCausalLM,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[torch.Tensor],
    recipe: PretrainRecipe,
    checkpoints: _Checkpoints,
    progress: Progress,
) -> list[float]:
    """Train from the checkpoint on, if there is one, and return the losses of all steps."""
    import torch

    from qrft.training.replicas import Replicas, num_processes, threads

    def gradient(rows: list[list[int]]) -> float:
        """Add these rows' part of the gradient to the parameters, and return their part of the loss."""
        ids = torch.tensor(rows)
        loss = model(input_ids=ids, labels=ids).loss * (len(rows) / recipe.batch_size)
        loss.backward()
        return float(loss.detach())

    num_steps = max(1, recipe.num_tokens // (recipe.batch_size * recipe.context_length))
    losses = checkpoints.load()
    for _ in losses:
        next(batches)
    number = num_processes(recipe.batch_size, None)
    with threads(number), closing(Replicas(number - 1, list(model.parameters()), gradient)) as replicas:
        for step in range(len(losses), num_steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at((step + 1) / num_steps, recipe.learning_rate, recipe.warmup_ratio)
            rows = next(batches).tolist()
            optimizer.zero_grad()
            replicas.begin([(rows[i::number],) for i in range(1, number)])
            losses.append(sum([gradient(rows[::number]), *replicas.gather()]))
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            progress(step + 1, num_steps, f"loss {losses[-1]:.3f}")
            checkpoints.save_when_due(losses)
    return losses


def held_out_loss(folder: Path, context: int) -> dict[str, Any]:
    """Measure the held-out loss of the model as it was written."""
    model, tokenizer = text_loss.load_on_device(folder), load_tokenizer(folder)
    return text_loss.measure(model, tokenizer, tiny_corpus.held_out(), context)


class _Checkpoints:
    """One file with all that training needs to resume; it is used only if its recipe is the same."""

    def __init__(
        self, path: Path, recipe: PretrainRecipe, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer
    ) -> None:
        self.path, self._recipe, self._model, self._optimizer = path, recipe.model_dump(), model, optimizer
        self._start = self._saved = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds that training took, including earlier calls."""
        return time.monotonic() - self._start

    def load(self) -> list[float]:
        """Restore the checkpoint, and return the losses up to it, one per step; none without a checkpoint."""
        import torch

        saved = torch.load(self.path) if self.path.exists() else {}
        if saved.get("recipe") != self._recipe:
            return []
        self._model.load_state_dict(saved["model"])
        self._optimizer.load_state_dict(saved["optimizer"])
        self._start -= saved["seconds"]
        losses: list[float] = saved["losses"]
        return losses

    def save_when_due(self, losses: list[float]) -> None:
        import torch

        if time.monotonic() - self._saved < CHECKPOINT_SECONDS:
            return
        state = {"recipe": self._recipe, "losses": losses, "seconds": self.seconds()}
        state |= {"model": self._model.state_dict(), "optimizer": self._optimizer.state_dict()}
        with whole_file(self.path) as path:
            torch.save(state, path)
        self._saved = time.monotonic()
