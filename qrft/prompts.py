"""The only place that turns a question into a prompt and its token ids: training, sampling and evaluation share it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from qrft.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# "alpaca" is the paper's prompt (the Alpaca template without input); the answer follows it directly.
TEMPLATES = {
    "plain": "{question}\n",
    "alpaca": (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\n{question}\n\n### Response:"
    ),
}


# Between a solved example and what follows it, in a prompt with examples.
BETWEEN_EXAMPLES = "\n\n"

Solved = tuple[str, str]  # a question and its worked solution


class Example(NamedTuple):
    token_ids: list[int]
    prompt_length: int  # the loss is on the tokens after it


def load_tokenizer(model_dir: Path) -> PreTrainedTokenizerBase:
    """Raises ModelError when the folder has no tokenizer that can be read, or one without an end-of-text token."""
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model_dir)
    except Exception as error:  # the library raises many kinds for an unreadable folder
        raise ModelError(
            f"{model_dir}: its tokenizer can't be read ({str(error).splitlines()[0]}). "
            "Expected tokenizer.json and tokenizer_config.json; download the model again or name another folder."
        ) from error
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"{model_dir}: its tokenizer has no eos_token, so no sample could end. Set one in tokenizer_config.json."
        )
    return tokenizer


def prompt_text(question: str, template: str, examples: Sequence[Solved] = ()) -> str:
    """The examples, each as the template and its solution, then the template with the question."""
    solved = [TEMPLATES[template].format(question=q) + solution + BETWEEN_EXAMPLES for q, solution in examples]
    return "".join(solved) + TEMPLATES[template].format(question=question)


def next_example(template: str) -> str:
    """How the next example begins: a model that was shown examples goes on with one of its own after its answer."""
    return BETWEEN_EXAMPLES + TEMPLATES[template].partition("{question}")[0]


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, question: str, template: str, examples: Sequence[Solved] = ()
) -> list[int]:
    """The prompt's token ids, with exactly one beginning-of-text token if the tokenizer itself puts one."""
    ids: list[int] = tokenizer(prompt_text(question, template, examples), add_special_tokens=False)["input_ids"]
    bos = tokenizer.bos_token_id
    if bos is not None and tokenizer("a")["input_ids"][0] == bos:
        ids = [bos, *ids]
    return ids


def example(tokenizer: PreTrainedTokenizerBase, question: str, completion: str, template: str) -> Example:
    """Prompt, completion and end-of-text, each tokenized apart so that the prompt's ids are those of sampling."""
    prompt = prompt_ids(tokenizer, question, template)
    answer: list[int] = tokenizer(completion, add_special_tokens=False)["input_ids"]
    return Example([*prompt, *answer, tokenizer.eos_token_id], len(prompt))
