"""Whole numbers as other programs write them: pandas makes 1.0 of each 1 in a column that has a gap."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_LARGEST = 2**53  # beyond it a float does not say which whole number was meant


def as_whole(value: Any) -> Any:
    """Return the whole number that a float is, None for NaN, pandas' gap, and any other value as it is."""
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return None
    return int(value) if value.is_integer() and abs(value) <= _LARGEST else value


def id_text(value: Any, name: str) -> str | None:
    """Return an id as text, None for none. Raises ValueError for anything but a whole number or a text."""
    number = as_whole(value)
    if isinstance(number, bool) or not isinstance(number, str | int | None):
        raise ValueError(f"{name} is {repr(value)[:60]}, expected a whole number or a text.")
    return None if number is None else str(number)


def whole_column(column: pa.Array) -> pa.Array:
    """Return a column of floats as whole numbers, null where it holds none; any other column as it is."""
    if not pa.types.is_floating(column.type):
        return column
    values = pc.fill_null(column.cast(pa.float64()), math.nan).to_numpy(zero_copy_only=False)
    is_whole = (values == np.floor(values)) & (np.abs(values) <= _LARGEST)
    return pa.array(np.where(is_whole, values, 0).astype(np.int64), mask=~is_whole)
