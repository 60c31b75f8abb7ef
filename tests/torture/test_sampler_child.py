"""The sampling process is harmed at random instants: one clear error within a stated time, finished samples stay, and
the same command then ends as if nothing had been."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qrft.commands import sample
from qrft.data.problems.registry import draw
from qrft.errors import SamplerError
from qrft.progress import unwatched
from qrft.sampling.backends.llama_cpp import process
from qrft.sampling.backends.llama_cpp.process import LlamaProcess

SECONDS = 60.0  # within which a harmed command ends, on a busy machine


def crash(child: LlamaProcess) -> None:
    os.kill(child._process.pid, signal.SIGSEGV)


def hang(child: LlamaProcess) -> None:
    os.kill(child._process.pid, signal.SIGSTOP)


def take_memory(child: LlamaProcess) -> None:
    resource.prlimit(child._process.pid, resource.RLIMIT_AS, (2**20, 2**20))


# As the pipe has it, a length of four bytes and an answer: one that is no pickle, too long, far too long, less than
# nothing, and anything.
GARBAGE = [b"\0\0\0\4junk", b"\x7f\xff\xff\xff", b"\xff" * 12, b"\xff\xff\xff\xfb", os.urandom(64)]


def write_garbage(child: LlamaProcess) -> None:
    """Write into the pipe of answers, as a process whose memory is damaged may: it is the worker's last descriptor."""
    folder = Path(f"/proc/{child._process.pid}/fd")
    pipes = [path for path in folder.iterdir() if os.readlink(path) == os.readlink(f"/proc/self/fd/{reader(child)}")]
    with pipes[0].open("wb", buffering=0) as pipe:
        pipe.write(random.Random().choice(GARBAGE))


def reader(child: LlamaProcess) -> int:
    return child.answers.fileno()


HARMS = {"segfault": crash, "hang": hang, "out of memory": take_memory, "garbage on the pipe": write_garbage}


def sampled(folder: Path) -> dict[str, object]:
    questions = [row["question"] for row in draw("tiny-math/test", 0, 40).to_pylist()]
    settings = {"max_new_tokens": 60, "samples_per_shard": 40, "threads": 1}
    choice, spec = sample.prepare("tiny-base", questions, 8, **settings)
    return sample.run(choice, spec, folder, unwatched)


def rows(folder: Path) -> pa.Table:
    tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    return pa.concat_tables(tables).drop_columns(["logprob"])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    folder = tmp_path_factory.mktemp("whole") / "samples"
    sampled(folder)
    return rows(folder)


def harmed(harm: Callable[[LlamaProcess], None], folder: Path, rng: random.Random, patch: pytest.MonkeyPatch) -> str:
    """Sample while a process is harmed some time after it has begun; return the message, or "" if none was needed."""
    begun, start = threading.Event(), LlamaProcess._start

    def announced(self: LlamaProcess) -> None:
        self.hang_seconds = 2.0
        start(self)
        if not begun.is_set():
            begun.set()
            threading.Timer(rng.uniform(0, 0.6), harm_it, [self]).start()

    def harm_it(child: LlamaProcess) -> None:
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended
            harm(child)

    patch.setattr(LlamaProcess, "_start", announced)
    patch.setattr(process, "_ANSWER_SECONDS", 2.0)
    started = time.monotonic()
    try:
        sampled(folder)
        return ""
    except SamplerError as error:
        return str(error)
    finally:
        assert time.monotonic() - started < SECONDS


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.torture) for seed in range(1, 20))])
def test_a_harmed_process_is_one_error_and_finished_samples_stay(
    harm: str, seed: int, undisturbed: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "samples"
    with monkeypatch.context() as patch:
        message = harmed(HARMS[harm], folder, random.Random(f"{harm} {seed}"), patch)
    assert not message or "kept" in message or "memory" in message, message
    finished = {path.name: path.read_bytes() for path in folder.glob("*.parquet")}
    sampled(folder)
    assert all((folder / name).read_bytes() == content for name, content in finished.items())
    assert rows(folder).equals(undisturbed)


@pytest.mark.parametrize("number", range(len(GARBAGE)))
def test_no_garbage_is_waited_for_without_end(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "GARBAGE", [GARBAGE[number]])
    with monkeypatch.context() as patch:
        message = harmed(write_garbage, tmp_path / "samples", random.Random(0), patch)
    assert not message or "finished samples are kept" in message
