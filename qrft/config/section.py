"""What every group of settings is: strict, immutable, with its types, ranges and defaults declared once."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    def runtime_keys(self) -> frozenset[str]:
        """The keys that say how the work goes, and decide nothing of what it makes."""
        return frozenset()

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide what is made, JSON-ready."""
        return self.model_dump(mode="json", exclude=set(self.runtime_keys))


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=100)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # the range of numpy's seeds, the narrowest of all that take it
Count = Annotated[int, Field(ge=1)]


def broken_rule(text: str, *at: str) -> PydanticCustomError:
    """Return the error of a rule that a section breaks. at: the key inside the validated section that is wrong."""
    return PydanticCustomError("broken_rule", "{text}", {"text": text, "at": at})
