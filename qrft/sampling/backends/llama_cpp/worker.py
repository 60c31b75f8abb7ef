"""The process in which llama.cpp runs: `python -m qrft.sampling.backends.llama_cpp.worker`, started by `process`.

Commands come as pickles on stdin, answers go as pickles to the former stdout, llama.cpp's words go to stderr. It ends
when stdin does, which also happens when the parent is killed; a thread watches for that, as llama_decode may run long.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from qrft.errors import OutOfMemoryError, SamplerError
from qrft.sampling.api import Completion, EngineInfo, EngineOptions, Request, SamplingParams, Stats

_SEND_EVERY = 0.1  # seconds: completions travel in lists, a pickle each would cost more than a step


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it ends us
    commands_in, answers = _take_stdio()
    commands: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    cancelled = threading.Event()
    threading.Thread(target=_read_commands, args=(commands_in, commands, cancelled), daemon=True).start()
    try:
        _serve(commands, answers, cancelled)
    except BrokenPipeError:
        pass  # the parent is gone
    except SamplerError as error:
        answers.send(("error", str(error)))
    except MemoryError as error:
        answers.send(("no memory", f"the sampling process found no memory: {error}"))
    except BaseException:
        traceback.print_exc()
        answers.send(("crash", traceback.format_exc(limit=-1).strip().splitlines()[-1]))
    sys.stderr.flush()
    os._exit(0)  # llama.cpp's destructors may call a log callback that is gone


def _take_stdio() -> tuple[Connection[Any, Any], Connection[Any, Any]]:
    """Return private copies of stdin and stdout; whatever C code prints then goes to stderr."""
    commands, answers = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    return Connection(commands, writable=False), Connection(answers, readable=False)


def _read_commands(
    source: Connection[Any, Any], commands: queue.SimpleQueue[tuple[str, Any]], cancelled: threading.Event
) -> None:
    parent = os.getppid()
    while True:
        try:
            # The pipe's end is not enough: a child forked by the parent may hold it open.
            while not source.poll(1.0):
                if os.getppid() != parent:
                    os._exit(0)
            name, content = source.recv()
        except (EOFError, OSError):
            os._exit(0)
        if name == "cancel":
            cancelled.set()
        else:
            commands.put((name, content))


def _serve(
    commands: queue.SimpleQueue[tuple[str, Any]], answers: Connection[Any, Any], cancelled: threading.Event
) -> None:
    from qrft.sampling.backends.llama_cpp import devices
    from qrft.sampling.backends.llama_cpp import engine as llama_cpp
    from qrft.sampling.backends.llama_cpp.loop import generate
    from qrft.sampling.backends.llama_cpp.sizing import num_cells

    _, options = commands.get()
    assert isinstance(options, EngineOptions)
    llama_cpp.set_log()
    engine = loaded = llama_cpp.load(options)
    answers.send(("ready", EngineInfo(engine.n_vocab, engine.n_ctx_train, devices.in_words(), devices.build())))
    while True:
        name, content = commands.get()
        cancelled.clear()
        try:
            if name == "logits":
                for prompt in content:
                    answers.send(("logits", llama_cpp.prompt_logits(engine, prompt)))
                answers.send(("done", None))
            elif name == "tokens":
                answers.send(("tokens", [llama_cpp.text_tokens(engine, text) for text in content]))
            elif name == "pace":
                answers.send(("pace", _pace(generate, engine, *content)))
            elif name == "configure":
                adapter = loaded.adapter if content.adapter_gguf else None
                engine = replace(loaded, options=content, adapter=adapter)
            else:
                requests, params, eos_ids = content
                answers.send(("context", num_cells(engine, requests, params)))
                _send_samples(generate, engine, requests, params, eos_ids, answers, cancelled)
        except OutOfMemoryError as error:
            answers.send(("no memory", str(error)))
        except SamplerError as error:
            answers.send(("refused", str(error)))


def _send_samples(
    generate: Any,
    engine: Any,
    requests: list[Request],
    params: SamplingParams,
    eos_ids: list[int],
    answers: Connection[Any, Any],
    cancelled: threading.Event,
) -> None:
    stats = Stats()
    bundle: list[Completion] = []
    sent = time.monotonic()
    steps: Iterator[list[Completion]] = generate(engine, requests, params, eos_ids, stats)
    for completions in steps:
        bundle += completions
        if time.monotonic() - sent > _SEND_EVERY:  # without samples too: it shows that steps are made
            answers.send(("samples", (bundle, replace(stats))))
            bundle, sent = [], time.monotonic()
            if cancelled.is_set():
                break
    answers.send(("samples", (bundle, replace(stats))))
    answers.send(("done", None))


def _pace(
    generate: Any, engine: Any, requests: list[Request], params: SamplingParams, num_steps: int, seconds: float
) -> list[tuple[float, int]]:
    """Do what LlamaProcess.pace asks for."""
    started = before = time.perf_counter()
    stats, last, steps = Stats(), Stats(), list[tuple[float, int]]()
    for _ in generate(engine, requests, params, [], stats):
        now = time.perf_counter()
        steps.append((now - before, stats.num_tokens - last.num_tokens))
        if stats.num_prompt_tokens > last.num_prompt_tokens:
            steps = []
        before, last = now, replace(stats)
        if len(steps) >= num_steps or now - started > seconds:
            break
    return steps


if __name__ == "__main__":
    main()
