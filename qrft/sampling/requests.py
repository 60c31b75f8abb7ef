"""Make requests from problems: prompts, with worked examples before the question if they are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from qrft.data.worked import is_worked
from qrft.errors import DataError
from qrft.models import prompts
from qrft.models.prompts import Solved
from qrft.models.wording import Wording
from qrft.sampling.api import Request, Work

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def make_requests(
    problems: pa.Table,
    tokenizer: PreTrainedTokenizerBase | None,
    wording: Wording,
    examples: Sequence[Solved] = (),
    system: str | None = None,
) -> list[Request]:
    """Return a request per problem of the table (schema.PROBLEMS), in its order; without a tokenizer only with texts.

    examples: from `choose_examples`, one more than a prompt holds: a problem that is an example itself gets the spare
    one. system: what a server is told before each prompt, where it has the chat template.
    """
    requests = []
    for row in problems.select(["problem_id", "question"]).to_pylist():
        shown = [solved for solved in examples if solved[0] != row["question"]][: len(examples) - 1]
        ids = [] if tokenizer is None else prompts.prompt_ids(tokenizer, row["question"], wording, shown)
        text = prompts.prompt_text(row["question"], wording, shown, tokenizer)
        text = text if tokenizer is None else prompts.text_for_server(text, tokenizer)
        requests.append(Request(row["problem_id"], ids, prompt=text, system=system))
    return requests


def choose_examples(problems: pa.Table, count: int, wording: Wording, place: str) -> list[Solved]:
    """Return the first count + 1 problems whose worked solution holds nothing like the beginning of another example.

    Raises DataError when there are fewer. `place`: where the problems come from, for people.
    """
    if count == 0:
        return []
    chosen: dict[str, str] = {}
    following = prompts.next_example(wording)
    for row in problems.filter(pa.array(is_worked(problems))).select(["question", "solution"]).to_pylist():
        if following is None or following not in row["solution"]:
            chosen.setdefault(row["question"], row["solution"])
        if len(chosen) > count:
            return list(chosen.items())
    raise DataError(
        f"{place}: found {len(chosen)} problems with a worked solution, but {count} examples need {count + 1}, one to "
        "spare for a problem that is an example itself. Name other problems with --examples, or ask for fewer with "
        "--few-shot or evaluate.few_shot."
    )


def work_of(requests: Sequence[Request], num_samples: int, max_new_tokens: int) -> Work:
    """Return the rough size of the work, in powers of 2, so that similar work is measured once.

    Limits are chosen so that few samples reach half of them.
    """
    lengths = sorted(len(request.prompt_ids) for request in requests) or [1]
    amounts = lengths[len(lengths) // 2], max_new_tokens // 2, num_samples, len(requests)
    return Work(*map(_power_of_2, amounts))


def _power_of_2(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()
