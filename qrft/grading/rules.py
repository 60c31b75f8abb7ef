"""How completions are judged and which of the right ones are kept: the settings, each declared once.

The recipe's keys, the options of the commands, the JSON schema and docs/recipe.md are made from these fields.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from qrft.config.section import Count, Section, broken_rule
from qrft.grading.traces import TRACES, Traces

Mode = Literal["default", "paper"]
AnswerFormat = Literal["gsm8k", "boxed", "answer-is", "answer-tag", "last-number", "auto"]
EquationSource = Literal["marked", "anywhere"]
DEFAULT_FORMAT: AnswerFormat = "gsm8k"  # when neither the rules nor the problem set name another
KeyOrder = Literal["exact", "commutative"]
KeepOrDrop = Literal["keep", "drop"]
Keep = Literal["farthest", "first", "random", "shortest", "longest"]
Sound = Literal["off", "flag", "require"]


def _any_bytes(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Accept texts that pydantic refuses: bytes of a command line that are not UTF-8 are surrogates in Python."""
    return value if isinstance(value, str) and value else check(value)


TRACE_TAGS, NO_TRACES = f"{TRACES.opening} {TRACES.closing}", "none"


def _two_tags(value: str) -> str:
    tags = value.split()
    if value != NO_TRACES and (len(tags) != 2 or tags[0] == tags[1]):
        raise broken_rule(
            f"found {value!r}. Allowed: two different tags with a blank between, such as {TRACE_TAGS!r}, or {NO_TRACES}"
        )
    return value


TraceTags = Annotated[str, AfterValidator(_two_tags)]
Marker = Annotated[str, Field(min_length=1), WrapValidator(_any_bytes)]


class Rules(Section):
    """How solutions are judged; docs/semantics.md defines every value.

    In mode "paper" the other rules must have their defaults. Raises ValidationError, a ValueError, for wrong values.
    """

    mode: Mode = Field(
        default="default",
        description="Whether qrft's own rules decide (default) or those of the paper's script (paper). With paper, "
        "the other rules must be left out.",
    )
    answer_format: AnswerFormat | None = Field(
        default=None,
        description="Where the answer stands in a solution: between <answer> and </answer> (answer-tag), after #### "
        "(gsm8k), in \\boxed{} (boxed), after 'the answer is' (answer-is), or in the last number "
        "(last-number); auto takes the first of these, in this order, that finds an answer. If not set, "
        "it is the format of the problem set, and gsm8k for a file.",
    )
    marker: Marker | None = Field(
        default=None, description="A text of your choice after which the answer stands. It replaces the answer format."
    )
    equations: EquationSource = Field(
        default="marked",
        description="Which equations are checked: those between << and >> (marked), or those in running text as well "
        "(anywhere).",
    )
    order: KeyOrder = Field(
        default="exact",
        description="Whether paths that differ only in the order of the operands of + and * are different paths "
        "(exact) or the same one (commutative).",
    )

    trace_tags: TraceTags = Field(
        default=TRACE_TAGS,
        description="The tags between which a reasoning model thinks, with a blank between them. What stands there is "
        "not its answer, and its equations do not count. With none, no text has such traces.",
    )
    trace_is_open: bool = Field(
        default=False,
        description="Whether the prompt opens the trace, as some chat templates do, so that a completion holds only "
        "the closing tag. One without it has no answer then.",
    )
    trace_equations: bool = Field(default=False, description="Whether the equations inside traces count too.")

    @property
    def traces(self) -> Traces | None:
        """The tags, and what else is said of traces; None where texts have none."""
        if self.trace_tags == NO_TRACES or self.mode == "paper":
            return None
        opening, closing = self.trace_tags.split()
        return Traces(opening, closing, self.trace_is_open, self.trace_equations)

    @field_validator("answer_format", "marker", "equations", "order", "trace_tags", "trace_is_open", "trace_equations")
    @classmethod
    def _paper_leaves_no_choice(cls, value: str | bool | None, info: ValidationInfo) -> str | bool | None:
        unset = cls.model_fields[str(info.field_name)].default
        default = DEFAULT_FORMAT if info.field_name == "answer_format" else unset  # as the paper's script has it
        if info.data.get("mode") == "paper" and value not in (unset, default):
            allowed = f"Allowed: {default}, or leave it out" if default else "Leave it out"
            raise broken_rule(f"found {value!r} with mode paper, which decides everything as the paper does. {allowed}")
        return value


class Selection(Section):
    """Which of the right paths of a problem are kept; docs/semantics.md, "Selecting paths", defines every value."""

    keep: Keep = Field(
        default="farthest",
        description="Which of the paths with the same equations to keep: the one least like the other kept paths "
        "(farthest), the first, a random one, the shortest or the longest.",
    )
    max_per_problem: Count | None = Field(
        default=None, description="The most sampled paths to keep per problem. If not set, all of them."
    )
    traces: KeepOrDrop = Field(
        default="keep",
        description="Whether training rows and pairs keep what a reasoning model thought before it answered (keep) or "
        "only what it answered (drop).",
    )
    cut_off: KeepOrDrop = Field(
        default="drop",
        description="Whether a sample that the token limit cut off (its finish_reason is length) may be a training row "
        "or part of a pair (keep) or never is (drop).",
    )
    sound: Sound = Field(
        default="off",
        description="Whether the reasoning of right paths is judged: each number known or derived, each result used, "
        "the last one the answer. With flag, unsound paths are counted; with require, they are not kept either.",
    )
    dedup: bool = Field(
        default=True,
        description="Keep only one path per list of equations; samples without any are told apart by their texts. "
        "Otherwise, every correct path is kept.",
    )

    @property
    def runtime_keys(self) -> frozenset[str]:
        """Only `require` decides what is kept."""
        return frozenset() if self.sound == "require" else frozenset({"sound"})


class Judging(Section):
    """What `qrft grade` says besides, which costs time."""

    sound: bool = Field(
        default=False, description="Say also of each right path whether its reasoning is sound, or why not."
    )


class Verdicts(Section):
    """Whether samples made elsewhere are judged by what their file says of them."""

    verdicts: bool = Field(
        default=False,
        description="Let the verdict that a file gives a sample decide whether it is right: its column is_correct, or "
        "score with a min_score. A sample without one is judged by its answer. The equations are judged all the same.",
    )
    min_score: float | None = Field(
        default=None, description="The score from which a sample is right. Only with verdicts."
    )

    @model_validator(mode="after")
    def _scores_are_read(self) -> Self:
        if self.min_score is not None and not self.verdicts:
            raise broken_rule(
                f"found {self.min_score:g} without verdicts, so no score is read. Allowed: verdicts as well",
                "min_score",
            )
        return self


class Gold(Section):
    """Where the gold answers of problems without any come from."""

    vote: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Take as the gold answer of a problem that has none what its samples answer most often, if at "
        "least this share of them does. If not set, there is no vote.",
    )


DEFAULT_RULES = Rules()
NO_VOTE = Gold()
NO_VERDICTS = Verdicts()
DEFAULT_SELECTION = Selection()
