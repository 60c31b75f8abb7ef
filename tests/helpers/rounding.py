"""How far two float32 computations of the same number may be apart, on any processor.

Processors differ in the order of additions (how many lanes, which blocks of a matrix product, with or without fused
multiply-add), and in nothing else. A sum of n products is off by at most n * 2^-24 of the sum of their sizes, in
whatever order (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., eq. 3.5); two computations of it
differ by at most twice that.
"""

from __future__ import annotations

from typing import Any

EPSILON = 2.0**-23  # of float32


def product_error(first: Any, second: Any) -> Any:
    """Return the most by which two computations of the matrix product `first @ second` differ, for each entry."""
    return first.shape[-1] * EPSILON * (first.abs() @ second.abs())
