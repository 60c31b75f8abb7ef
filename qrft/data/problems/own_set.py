"""A problem set of a person's own: where it lies, and which of its columns hold the question and the answer."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Discriminator, Field, Tag, model_validator

from qrft.config.section import Section, broken_rule
from qrft.data.problems.problem_set import Hub
from qrft.grading.rules import AnswerFormat

Text = Annotated[str, Field(min_length=1)]
COLUMNS = {"question": "question", "answer": "answer", "solution": "solution", "id": "problem_id"}
NAME, SECTION = "name", "section"  # the two ways to say which problems, as pydantic's errors call them


class OwnSet(Section):
    """A file, or a file of a data set on the hub, with the names of its columns."""

    path: Text | None = Field(default=None, description="The file: JSONL, JSON, CSV or Parquet, by its ending.")
    hub: Text | None = Field(default=None, description="A data set of the Hugging Face hub, such as org/name.")
    file: Text | None = Field(
        default=None,
        description="Which file of it, by its path there, such as data/train-00000-of-00001.parquet. Only with hub.",
    )
    revision: Text | None = Field(
        default=None, description="The commit of it, whole. If not set, the newest. Only with hub."
    )
    question: Text | None = Field(
        default=None, description="The column of the question. If not set, question or problem."
    )
    answer: Text | None = Field(
        default=None,
        description="The column of the answer: a bare one, or a worked solution that ends in it. If not set, answer.",
    )
    solution: Text | None = Field(
        default=None, description="The column of the worked solution. If not set, solution, where there is one."
    )
    id: Text | None = Field(
        default=None, description="The column of the problem's id. If not set, problem_id, id or unique_id."
    )
    format: AnswerFormat | None = Field(
        default=None,
        description="Where solutions give the answer, unless grade.answer_format says so. If not set, gsm8k.",
    )

    @model_validator(mode="after")
    def _lies_in_one_place(self) -> Self:
        if self.path is not None and self.hub is not None:
            raise broken_rule(f"found {self.hub!r} together with path. Allowed: one of the two", "hub")
        if self.path is None and self.hub is None:
            raise broken_rule("missing. Allowed: a file, or hub with file instead", "path")
        if self.hub is not None and self.file is None:
            raise broken_rule("missing with hub. Allowed: the path of a file in that data set", "file")
        for key in ("file", "revision"):
            if self.hub is None and getattr(self, key) is not None:
                raise broken_rule(f"found {getattr(self, key)!r} without hub. Allowed: leave it out", key)
        return self

    @property
    def columns(self) -> dict[str, str]:
        """Return the columns that are named, by what a row of problems calls them."""
        return {name: getattr(self, key) for key, name in COLUMNS.items() if getattr(self, key) is not None}

    @property
    def at_the_hub(self) -> Hub:
        """Return where it is on the hub."""
        assert self.hub is not None and self.file is not None
        return Hub(self.hub, (self.file,), self.revision)

    def __str__(self) -> str:
        return self.path or f"{self.hub}/{self.file}"


# The name of a set or a file, or a section.
ProblemSource = Annotated[
    Annotated[str, Tag(NAME)] | Annotated[OwnSet, Tag(SECTION)],
    Discriminator(lambda value: NAME if isinstance(value, str) else SECTION),
]
