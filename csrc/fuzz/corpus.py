"""Packs what a fuzzer has found worth keeping into one file that the tests replay through C and its Python twin.

    python csrc/fuzz/corpus.py build/fuzz/corpus/fuzz_grade tests/grading/fuzz_grade.jsonl [--max-bytes 200]

One input a line, as a JSON text whose characters are the bytes. Long inputs are left out: the short ones that libFuzzer
finds first reach the same branches, and the twin is slow.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--max-bytes", type=int, default=200)
    args = parser.parse_args()
    inputs = {path.read_bytes() for path in args.corpus.iterdir()}
    short = sorted((data for data in inputs if len(data) <= args.max_bytes), key=lambda data: (len(data), data))
    args.out.write_text("".join(json.dumps(data.decode("latin-1")) + "\n" for data in short), encoding="ascii")
    print(f"{len(short)} of {len(inputs)} inputs, {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
