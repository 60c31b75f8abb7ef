"""llama-cpp-python's own server, which speaks OpenAI's interface."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest


@contextmanager
def llama_server(folder: Path, models: Mapping[str, tuple[Path, Path | None]]) -> Iterator[str]:
    """Serve models by their names, each a GGUF file with an adapter's; yields the address. The first is loaded at once.

    folder: for the server's settings and its log.
    """
    if find_spec("uvicorn") is None:
        pytest.fail("llama_cpp.server needs packages of the dev extra: pip install -e '.[dev]' -c constraints.txt")
    common = {"n_threads": 1, "n_ctx": 512, "verbose": False}
    served = [
        {"model": str(base), "model_alias": name, "lora_path": adapter and str(adapter), **common}
        for name, (base, adapter) in models.items()
    ]
    (folder / "server.json").write_text(json.dumps({"host": "127.0.0.1", "port": 0, "models": served}))
    log = folder / "server.log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "llama_cpp.server", "--config_file", str(folder / "server.json")]
        server = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 120
        while not (running := re.search(r"running on (http://127.0.0.1:\d+)", log.read_text())):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield running[1]
    finally:
        server.kill()
        server.wait()
