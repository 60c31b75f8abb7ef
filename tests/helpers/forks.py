"""Commands of qrft in processes that need not import anything: each is a fork of one that has.

Importing torch and transformers takes longer than a command on a few problems; a campaign runs hundreds.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from helpers.commands import environment, python
from helpers.processes import members, stat

SERVER = """
    import contextlib, json, os, signal, sys, traceback
    with contextlib.suppress(ImportError):
        import transformers.models.llama.modeling_llama, transformers.trainer, accelerate, peft, bitsandbytes
    import qrft.training.finetune, qrft.training.trainer, qrft.models.gguf.base, qrft.models.gguf.adapter
    import qrft.sampling.backends.llama_cpp.process, qrft.cli.actions, qrft.cli.console, qrft.cli.results
    from qrft.cli.main import main
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if pid := os.fork():
            print(pid, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        out = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)  # a terminal becomes the session's
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(out, 1), os.dup2(out, 2)
        os.chdir(job["folder"])
        os.environ.update(job["variables"])
        code = 70
        try:
            main(job["words"])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        except BaseException:
            with open(job["error"], "w") as file:
                traceback.print_exc(file=file)
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
            with open(job["code"], "w") as file:
                file.write(str(code))
            os._exit(code)
"""


class Forks:
    """A process that has imported what commands need, and forks one for each."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.number = 0
        env = environment(**{"OMP_NUM_THREADS": "1", "COLUMNS": "200", **variables})
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(python(SERVER), text=True, env=env, **pipes)
        assert self._line() == "ready"

    def start(self, *words: object, output: str = "", **variables: str) -> Running:
        """Start a command in a session of its own, with its output in a file, or where `output` says."""
        self.number += 1
        out = self.folder / f"{self.number}.out"
        job = {
            "words": list(map(str, words)),
            "output": output or str(out),
            "code": f"{out}.code",
            "error": f"{out}.error",
        }
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({**job, "folder": str(self.folder), "variables": variables}) + "\n")
        self.process.stdin.flush()
        return Running(int(self._line()), out)

    def run(self, *words: object, **variables: str) -> Running:
        """Run a command to its end."""
        running = self.start(*words, **variables)
        running.wait()
        return running

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@dataclass
class Running:
    """A command that was started."""

    pid: int
    out: Path

    @property
    def has_ended(self) -> bool:
        return not stat(self.pid)  # not only its first thread: others may still hold its locks

    @property
    def code(self) -> int | None:
        """Its exit code; None where a signal ended it."""
        path = Path(f"{self.out}.code")
        return int(path.read_text() or 70) if path.exists() else None

    @property
    def printed(self) -> str:
        paths = [self.out, Path(f"{self.out}.error")]  # a traceback is seen even where the terminal is gone
        return "".join(path.read_text(errors="replace") for path in paths if path.exists())

    def wait(self, seconds: float = 600) -> int | None:
        """Wait until it has ended, and return its exit code."""
        deadline = time.monotonic() + seconds
        while not self.has_ended:
            assert time.monotonic() < deadline, f"it still runs after {seconds:g} s:\n{self.printed}"
            time.sleep(0.01)
        return self.code

    def signal(self, number: int) -> None:
        """Send a signal to all its processes."""
        for pid in members(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
