"""The process that compares expressions with Math-Verify: a pair of texts per line in, a verdict per line out, as JSON.

It is run as a file by qrft.grading.latex, which kills it when a pair takes too long. It imports nothing of qrft, so it
starts as fast as Math-Verify does.
"""

import json
import os
import resource
import sys

MEMORY_BYTES = 4 << 30  # ten times what Math-Verify needs, so that 9^9^9^9 does not take all of the machine's


def limit(kind: int, amount: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (amount if hard == resource.RLIM_INFINITY else min(amount, hard), hard))


def compare(gold: str, answer: str) -> bool | str:
    """Compare without Math-Verify's own time limits, which use signals; the parent process kills this one instead."""
    from math_verify import parse, verify

    parsed = [parse(f"${text}$", parsing_timeout=None) for text in (gold, answer)]
    # Math-Verify returns only the text when it can't parse it, and nothing when it finds no expression.
    if not all(values and not isinstance(values[0], str) for values in parsed):
        return "error"
    return bool(verify(*parsed, timeout_seconds=None, raise_on_error=True))


def serve(seconds_a_pair: int) -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not be taken for a reply
    limit(resource.RLIMIT_AS, MEMORY_BYTES)
    import math_verify  # noqa: F401

    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        # If the parent dies, this process must not compute on for ever.
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds_a_pair + 5)
        try:
            verdict = compare(*json.loads(line))
        except (Exception, RecursionError, MemoryError):
            verdict = "error"
        print(json.dumps(verdict), file=replies, flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
