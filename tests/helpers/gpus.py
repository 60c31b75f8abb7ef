"""A GPU for llama.cpp where there is none: a process lends its processor and some memory over llama.cpp's RPC.

llama.cpp takes such a device for a GPU, so all of offloading runs: buffers, cache and adapters on the device, flash
attention by its own choice. What goes wrong there shows; how fast it is does not.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

PARTS = Path(__file__).parent / "lent_gpu"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qrft-tests"  # before a test sets another


@dataclass(frozen=True)
class LentGpu:
    """What tells llama.cpp of the device, and a file that tells the device of bytes taken by others."""

    variables: dict[str, str]
    taken: Path

    @contextmanager
    def used(self) -> Iterator[None]:
        """Give the GPU to the processes that start inside: it serves one after the other."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.variables.items():
                patch.setenv(name, value)
            yield

    def take(self, num_bytes: int) -> None:
        """Take so many of its bytes without its knowledge, as another program does after it was asked what is free."""
        self.taken.write_text(str(num_bytes))


@contextmanager
def lent_gpu(num_bytes: int) -> Iterator[LentGpu]:
    """Lend so many bytes while inside. Skips the test where the plug-in can't be built."""
    built = plugin()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        taken = Path(folder) / "taken"
        command = [sys.executable, PARTS / "lender.py", built, address, str(num_bytes), taken]
        lender = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait(lender, port)
            yield LentGpu({"GGML_BACKEND_PATH": str(built), "LENT_GPU": address}, taken)
        finally:
            lender.kill()
            lender.wait()


def _wait(lender: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert lender.poll() is None and time.monotonic() < deadline, "the device's lender did not start"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)


def plugin() -> Path:
    """Build the plug-in of the installed release, once. Skips the test where that is impossible."""
    release = version("llama-cpp-python")
    source = hashlib.blake2b((PARTS / "plugin.cpp").read_bytes(), digest_size=4).hexdigest()
    built = CACHE / f"lent-gpu-{release}-{source}.so"
    if not built.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            _build(release, Path(folder)).replace(built)
    return built


def _build(release: str, folder: Path) -> Path:
    """Build it from the source package of the release, with the installed package's own libggml-base."""
    import llama_cpp

    wanted = ["--no-deps", "--no-build-isolation", "--no-binary", ":all:", f"llama-cpp-python=={release}"]
    _run([sys.executable, "-m", "pip", "download", "-q", "-d", str(folder), *wanted], "its source package")
    ggml = _unpack(next(folder.glob("*.tar.gz")), folder)
    library = Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so.0"
    sources = [PARTS / "plugin.cpp", ggml / "src/ggml-rpc/ggml-rpc.cpp", ggml / "src/ggml-rpc/transport.cpp"]
    flags = ["-O1", "-std=c++17", "-shared", "-fPIC", "-DGGML_SHARED", "-DGGML_BACKEND_SHARED", "-DGGML_BACKEND_BUILD"]
    includes = [f"-I{ggml / name}" for name in ("include", "src", "src/ggml-rpc")]
    out = folder / "plugin.so"
    _run(["g++", *flags, *includes, *map(str, sources), str(library), "-o", str(out)], "a build by g++")
    return out


def _unpack(archive: Path, folder: Path) -> Path:
    """Unpack ggml's headers and its RPC backend; return ggml's folder."""
    with tarfile.open(archive) as source:
        root = f"{source.next().name.split('/')[0]}/vendor/llama.cpp/ggml"  # type: ignore[union-attr]
        wanted = [
            member
            for member in source
            if member.name.startswith((f"{root}/include/", f"{root}/src/ggml-rpc/"))
            or (member.name.startswith(f"{root}/src/ggml") and member.name.endswith(".h"))
        ]
        source.extractall(folder, wanted, filter="data")
    return folder / root


def _run(command: list[str], what: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"llama.cpp's RPC device needs {what}: {error}")
    if done.returncode != 0:
        pytest.skip(f"llama.cpp's RPC device needs {what}: {done.stderr.strip()[-500:]}")
