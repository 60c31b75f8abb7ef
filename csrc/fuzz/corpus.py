"""Adds what the fuzzer has found worth keeping to the file that the tests replay through C and the reference.

    python csrc/fuzz/corpus.py build/fuzz/corpus/fuzz_grade tests/grading/fuzz_grade.jsonl [--max-bytes 200]

One input a line, as a JSON text whose characters are the bytes. Long inputs are left out: the short ones that libFuzzer
finds first reach the same branches, and the reference is slow.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from qrft.grading.native import lib


def has_rules(data: bytes) -> bool:
    """Return whether fuzz_grade.c reads the input: the numbers that no format has yet are left for those to come."""
    return data[:1] >= b"\x80" or (data != b"" and (data[0] & 7 | data[0] >> 2 & 24) < lib.QRFT_NUM_FORMATS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--max-bytes", type=int, default=200)
    args = parser.parse_args()
    kept = {json.loads(line).encode("latin-1") for line in args.out.read_text(encoding="ascii").splitlines()}
    found = {path.read_bytes() for path in args.corpus.iterdir()}
    short = {data for data in found if len(data) <= args.max_bytes and has_rules(data)}
    lines = sorted(kept | short, key=lambda data: (len(data), data))
    args.out.write_text("".join(json.dumps(data.decode("latin-1")) + "\n" for data in lines), encoding="ascii")
    print(f"{len(short - kept)} of {len(found)} inputs added, {len(lines)} in all, {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
