"""What a server's answer says: the text, how it ended, how many tokens it has. Servers differ in their words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from qrft.sampling.api import Completion, FinishReason, Request, SamplingParams
from qrft.sampling.backends.openai.exchange import Answer
from qrft.sampling.backends.stop_texts import first_stop

Job = tuple[Request, int]  # with the index of the sample
Unknown = Callable[[object], None]  # is told of a finish reason that is not known

# The words of OpenAI, vLLM, llama-server; TGI and Together (eos), sglang and Ollama (""), Anthropic, Gemini, Cohere,
# Mistral. No word at all is an end too: the text is whole and was paid for.
_NO_WORD = {"", "none"}
_ENDS = {"stop", "eos", "eos_token", "stop_sequence", "stop_token", "end_turn", "end_of_text", "endoftext", "complete"}
_ENDS |= {"completed", "finish", "finished", "end", "done"} | _NO_WORD
_CUTS = {"length", "max_tokens", "max_length", "max_new_tokens", "max_output_tokens", "model_length", "token_limit"}
_CUTS |= {"time_limit", "content_filter", "safety", "recitation", "refusal", "tool_calls", "function_call"}
_BROKEN = {"error", "abort", "aborted", "cancelled", "canceled", "insufficient_system_resource"}  # asked for again
_MOST_TOKENS = 2**31 - 1  # of a completion: what the column holds


class NotACompletion(Exception):
    """An answer in which no completion can be found."""


def read(answer: Answer, job: Job, params: SamplingParams, unknown: Unknown) -> Completion:
    """Return the completion in an answer. Raises NotACompletion."""
    try:
        whole = json.loads(answer.content)
        choice = whole["choices"][0]
        text = _text(choice)
        logprobs = _logprobs(choice)
        num_tokens = _count((whole.get("usage") or {}).get("completion_tokens"), len(logprobs))
        reason = _finish_reason(choice.get("finish_reason"), num_tokens >= params.max_new_tokens, unknown)
        logprob = math.fsum(logprobs) if logprobs else math.nan
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise NotACompletion(f"{type(error).__name__}: {str(error)[:200]}") from None
    start = first_stop(text, params.stop, params.stops_outside)
    if start >= 0 or (reason == "stop" and _ended_by_stop_text(whole, choice, params)):
        reason = "stop_text"
    return Completion(
        job[0].problem_id,
        job[1],
        [],
        reason,
        logprob if math.isfinite(logprob) else math.nan,
        text[:start] if start >= 0 else text,
        num_tokens,
    )


def name_in(answer: Answer) -> str | None:
    """Return the name of the model that answered, as the server has it; None where it does not say."""
    name = json.loads(answer.content).get("model")
    return name[:200].encode("utf-8", "replace").decode() if isinstance(name, str) and name else None


def _text(choice: dict[str, Any]) -> str:
    found = choice["message"]["content"] if "message" in choice else choice["text"]
    if isinstance(found, list):  # parts, of which those of other kinds (thinking) have no "text"
        found = "".join(part["text"] for part in found if part.get("type", "text") == "text")
    # JSON can hold half a surrogate pair, which is not a text.
    return ("" if found is None else found).encode("utf-8", "replace").decode()


def _finish_reason(found: object, is_long: bool, unknown: Unknown) -> FinishReason:
    """Return how the text ended. Without a word, a text of as many tokens as were asked for was cut."""
    word = "" if found is None else str(found).lower().removeprefix("finish_reason_")
    if word in _BROKEN:
        raise ValueError(f"finish_reason {found!r}")
    if word in _ENDS:
        return "length" if is_long and word in _NO_WORD else "stop"
    if word not in _CUTS:
        unknown(found)
    return "length"


def _count(found: object, otherwise: int) -> int:
    """Return a number of tokens; `otherwise` where the server gives none. Raises ValueError for what is no number."""
    if not found:
        return otherwise
    if isinstance(found, bool) or not isinstance(found, int | float) or found != int(found):
        raise ValueError(f"completion_tokens {str(found)[:40]}")
    if not 0 <= found <= _MOST_TOKENS:
        raise ValueError(f"completion_tokens {str(found)[:40]}, expected 0 to {_MOST_TOKENS}")
    return int(found)


def _logprobs(choice: dict[str, Any]) -> list[float]:
    """Return each token's log-probability, of /completions or /chat/completions; none if they were not asked for."""
    given = choice.get("logprobs") or {}
    tokens = given.get("content") or []
    return [token["logprob"] for token in tokens] or list(given.get("token_logprobs") or [])


def _ended_by_stop_text(answer: dict[str, Any], choice: dict[str, Any], params: SamplingParams) -> bool:
    """Return whether one of the stop texts ended it: most servers name it, TGI says that one did."""
    named = [choice.get("stop_reason"), choice.get("stopping_word"), answer.get("stopping_word")]
    by_one = choice.get("finish_reason") == "stop_sequence" and bool(params.stop)
    return by_one or any(name in params.stop for name in named)
