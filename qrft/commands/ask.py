"""`qrft ask`: a question to the models of a run, their answers with every equation judged, and the vote of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from qrft import grading
from qrft.commands.answers import Asking
from qrft.commands.trained import Trained, find_trained
from qrft.errors import UsageError
from qrft.evaluation import votes
from qrft.grading.marks import pieces
from qrft.grading.rules import Rules
from qrft.progress import Progress
from qrft.sampling.api import Completion, SamplingParams
from qrft.sampling.backends.registry import SamplerName

TEMPERATURE = 0.7  # of several samples
Bar = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class Settings:
    """How to ask. `phases`: the models of the run, () for the newest. `num_samples`: 1 for the greedy answer."""

    phases: tuple[str, ...] = ()
    num_samples: int = 1
    temperature: float | None = None
    max_new_tokens: int | None = None
    seed: int = 0
    base: str | None = None
    sampler: SamplerName | None = None
    num_threads: int | None = None

    def params(self, model: Trained) -> SamplingParams:
        usual = TEMPERATURE if self.num_samples > 1 else 0.0
        temperature = usual if self.temperature is None else self.temperature
        if self.num_samples > 1 and temperature == 0:
            raise UsageError(
                f"-n {self.num_samples} at temperature 0: all answers would be equal. Give --temperature, or -n 1."
            )
        longest = self.max_new_tokens or model.max_new_tokens
        return SamplingParams(temperature=temperature, max_new_tokens=longest, seed=self.seed)


class Panel:
    """The models that are asked. A single one stays loaded from question to question; of several one is at a time: the
    memory of a GPU may hold no more."""

    def __init__(self, folder: Path, settings: Settings, bar: Bar) -> None:
        self._settings, self._bar = settings, bar
        self._models = find_trained(folder, settings.phases, settings.base)
        self._kept = ExitStack()
        self._alone = self._kept.enter_context(self._asking(self._models[0])) if len(self._models) == 1 else None

    def __enter__(self) -> Panel:
        return self

    def __exit__(self, *error: object) -> None:
        self._kept.close()

    def ask(self, question: str) -> dict[str, Any]:
        """Return the question and what each of the models says to it. Raises UsageError for an empty one."""
        if not question.strip():
            raise UsageError("the question is empty. Write one in quotation marks.")
        return {"question": question, "models": [self._answered(model, question) for model in self._models]}

    def _asking(self, model: Trained) -> Asking:
        return Asking(model, sampler=self._settings.sampler, num_threads=self._settings.num_threads)

    def _answered(self, model: Trained, question: str) -> dict[str, Any]:
        params, number = self._settings.params(model), self._settings.num_samples
        with ExitStack() as stack:
            asking = self._alone or stack.enter_context(self._asking(model))
            with self._bar(f"asking {model.phase}") as progress:
                ((*completions,),) = asking.ask([question], params, number, progress)
        rules = judging(model.rules)
        answers = list(judged(question, completions, rules))
        return {
            "model": model.phase,
            "name": model.name,
            "answers": answers,
            "vote": vote(completions, answers, rules) if number > 1 else None,
        }


def judging(rules: Rules) -> Rules:
    """Return the rules by which an answer is judged: equations of running text too, which most models write."""
    return rules if rules.mode == "paper" else rules.model_copy(update={"equations": "anywhere"})


def judged(question: str, completions: Sequence[Completion], rules: Rules) -> Iterator[dict[str, Any]]:
    """Yield each answer with its pieces. Whether its path is sound is asked as if its own answer were the right one."""
    texts = [completion.text or "" for completion in completions]
    spans = grading.extract_answers(pa.array(texts), rules=rules)
    found = [
        text.encode()[start:end].decode(errors="replace") if start >= 0 else ""
        for text, start, end in zip(texts, spans.starts.tolist(), spans.ends.tolist(), strict=True)
    ]
    asked = pa.array([question] * len(texts))
    grades = grading.grade(pa.array(texts), pa.array(found), questions=asked, rules=rules)
    for completion, text, answer, grade in zip(completions, texts, found, grades.to_pylist(), strict=True):
        marked = pieces(text, rules, (grade["answer_start"], grade["answer_end"]))
        is_followed = grade["is_correct"] and grade["equations_status"] == "ok"
        yield {
            "text": text,
            "answer": answer.strip() or None,
            "equations": [
                {"text": piece.text, "status": piece.told or "right"}
                for piece in marked
                if piece.kind in ("right", "wrong")
            ],
            "path": grade["soundness"] if is_followed else None,
            "finish_reason": completion.finish_reason,
            "num_tokens": completion.num_tokens,
            "pieces": [piece._asdict() for piece in marked],
        }


def vote(completions: Sequence[Completion], answers: Sequence[dict[str, Any]], rules: Rules) -> dict[str, Any]:
    """Return which values the answers have and how often, the most frequent first."""
    texts = pa.array([completion.text or "" for completion in completions])
    grades = grading.grade(texts, pa.array([answer["answer"] or "" for answer in answers]), rules=rules)
    values = votes.values(texts, grades, rules).to_pylist()
    named: dict[bytes, str] = {}
    for value, answer in zip(values, answers, strict=True):
        if value is not None:
            named.setdefault(value, str(answer["answer"]))
    counts = Counter(value for value in values if value is not None)
    return {
        "num_samples": len(answers),
        "num_voting": counts.total(),
        "answers": [{"answer": named[value], "count": count} for value, count in counts.most_common()],
    }
