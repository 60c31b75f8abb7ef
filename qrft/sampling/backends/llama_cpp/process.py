"""llama.cpp in a process of its own.

Its memory is free when it ends, its crash is one SamplerError with its last log lines, and it dies with its parent.
Where memory ran out it is started again with half the context: a GPU's backend may be good for nothing after that.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from qrft import processes
from qrft.errors import OutOfMemoryError, SamplerError
from qrft.sampling.api import CacheType, Completion, EngineInfo, EngineOptions, Request, SamplingParams, Stats
from qrft.sampling.backends.llama_cpp.shares import run_shares

log = logging.getLogger(__name__)

_LOG_LINES = 15
_ANSWER_SECONDS = 60.0  # from the first byte of an answer to its last
# What llama.cpp says before it aborts, in the words of CUDA and HIP, of cuBLAS, of Vulkan, of C++.
_NO_MEMORY = re.compile("out of memory|resource allocation failed|CUBLAS_STATUS_ALLOC_FAILED|OutOfDevice|bad_alloc")
# llama.cpp's threads meet some hundred times a token, and OpenMP lets them spin there for milliseconds. When another
# program holds a core, that costs nearly all speed. Two threads beside a busy process, one short run each: 890 tokens/s
# by default, 160 at 30000, 2,600 at 2000, 1,580 at 100. On an idle machine: not yet measured.
# And its stack traces, by a debugger that it starts, would push the reason for an abort out of the last log lines.
_ENVIRONMENT = {"GOMP_SPINCOUNT": "2000", "GGML_NO_BACKTRACE": "1"}
# On a GPU llama.cpp multiplies float32 matrices in TF32 and adds products of f16 in f16: fast, and off by more than the
# rounding of a file. cuBLAS reads the first, ggml-cuda's ggml_cuda_mul_mat_cublas the second.
_EXACT = {"NVIDIA_TF32_OVERRIDE": "0", "GGML_CUDA_CUBLAS_COMPUTE_TYPE": "f32"}


class LlamaProcess:
    """A base model and an adapter, loaded in a process that lives as long as the `with` block.

    Args: `n_threads`: None for all cores that this process may use. `n_seq_max`: sequences that live at once, up to
    240 in a context; None for what suits the model. `n_ctx_seq`: the longest prompt and sample together, in tokens;
    None for the model's own. `n_ctx`: tokens in all contexts, shared by all that lives; None for what the requests need
    and the memory allows. `cache_type`: of keys and values. `kv_unified`, `flash_attention`, `overlap` (two contexts,
    of which one decodes while the other's tokens are picked): None for what suits requests and machine.
    `hang_seconds`: without a step for so long, the process counts as hanging. `is_exact`: for logits that judge a file:
    float32 in all products, sums and the cache, whatever the machine's own way of sampling.
    Raises SamplerError when a file is missing or llama.cpp can't load it.
    """

    def __init__(
        self,
        base_gguf: Path,
        adapter_gguf: Path | None = None,
        *,
        n_threads: int | None = None,
        n_seq_max: int | None = None,
        n_ctx_seq: int | None = None,
        cache_type: CacheType = "f16",
        kv_unified: bool | None = None,
        flash_attention: bool | None = None,
        overlap: bool | None = None,
        n_ctx: int | None = None,
        hang_seconds: float = 900.0,
        is_exact: bool = False,
    ) -> None:
        for path in (base_gguf, adapter_gguf):
            if path is not None and not path.is_file():
                raise SamplerError(f"{path}: not found. Expected a GGUF file; export the model first.")
        self.stats = Stats()  # of the latest `generate`
        self.merged_speedup: float | None = None  # how many times as fast a merged adapter would be, where measured
        self.hang_seconds = hang_seconds
        self._environment = _EXACT if is_exact else {}
        adapter = str(adapter_gguf.absolute()) if adapter_gguf else None
        base = str(base_gguf.absolute())
        if is_exact:
            cache_type, flash_attention = "f32", False
        self.options = EngineOptions(
            base, adapter, n_threads, n_seq_max, n_ctx_seq, n_ctx, cache_type, kv_unified, flash_attention, overlap
        )
        self._start()
        self.n_vocab, self.n_ctx_train = self.info.n_vocab, self.info.n_ctx_train

    @property
    def is_on_gpu(self) -> bool:
        return bool(self.info.gpu)

    def _start(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close(); a file needs no one to empty it
        self._process, self._commands, self.answers = _start_worker(self._log, self._environment)
        self._is_loading = True
        try:
            self.send("load", self.options)
            self.info: EngineInfo = self.receive()[1]
            self._is_loading = False
        except BaseException:
            self.close()
            raise

    def generate(
        self, requests: Iterable[Request], params: SamplingParams, eos_ids: Sequence[int]
    ) -> Iterator[Completion]:
        """Yield every sample of every request, in the order in which they end. `stats` is kept up to date.

        The same arguments give the same samples, byte for byte. One call at a time; an iterator that is dropped stops
        its sampling. Raises SamplerError for a prompt that doesn't fit, and when llama.cpp fails.
        """
        yield from run_shares([(self, list(requests))], params, eos_ids)

    def logits(self, prompts: Sequence[list[int]]) -> list[NDArray[np.float32]]:
        """Return the logits (tokens, vocabulary) of every position of each prompt.

        Raises SamplerError when llama.cpp fails.
        """
        self.send("logits", list(prompts))
        logits: list[NDArray[np.float32]] = []
        while True:
            name, content = self.receive()
            if name == "done":
                return logits
            logits.append(content)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text by the GGUF's own vocabulary; a control token that it spells is text.

        Raises SamplerError for a file without a vocabulary.
        """
        self.send("tokens", list(texts))
        tokens: list[list[int]] = self.receive()[1]
        return tokens

    def pace(
        self, requests: Sequence[Request], params: SamplingParams, num_steps: int, seconds: float
    ) -> list[tuple[float, int]]:
        """Sample for a while, and return the seconds and tokens of the latest steps that had no prompt to decode.

        Ends with `num_steps` of them in a row, or when the time is up. Raises SamplerError when llama.cpp fails.
        """
        self.send("pace", (list(requests), params, num_steps, seconds))
        steps: list[tuple[float, int]] = self.receive()[1]
        return steps

    def close(self) -> None:
        """End the process; its memory is free when this returns."""
        self._process.kill()
        self._process.wait()
        self._commands.close()
        self.answers.close()
        self._log.close()

    def __enter__(self) -> LlamaProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def configure(self, **options: Any) -> None:
        """Change fields of EngineOptions for the calls to come. No files but those that are loaded: an adapter may go
        and come back."""
        self.options = replace(self.options, **options)
        self.send("configure", self.options)

    def start_again(self, **options: Any) -> None:
        """Start the process again, with changed options."""
        self.close()
        self.options = replace(self.options, **options)
        self._start()

    def start_with_half(self, n_ctx: int) -> None:
        """Start the process again with half as large a context as the one for which there was no memory."""
        cells = f"{n_ctx // 2:,}", f"{n_ctx:,}"
        log.warning("llama.cpp ran out of memory: a context of %s tokens from here on, not of %s", *cells)
        self.start_again(n_ctx=n_ctx // 2)

    def cancel(self) -> None:
        """Stop a `generate`, and wait until it has."""
        if self._process.poll() is not None or self._commands.closed:
            return
        self.send("cancel", None)
        while self.receive()[0] != "done":
            pass

    def send(self, name: str, content: object) -> None:
        try:
            self._commands.send((name, content))
        except OSError as error:  # the process is gone, closed pipe included
            raise self._failure(error) from None

    def receive(self) -> tuple[str, Any]:
        try:
            self.answers.poll(None)
            with self._ends_unless_done(_ANSWER_SECONDS):
                name, content = self.answers.recv()
        except (EOFError, OSError) as error:
            raise self._failure(error) from None
        except Exception as error:  # whatever reading a broken pickle raises
            raise self._nonsense(error) from None
        if name == "refused":
            raise SamplerError(content)
        if name == "no memory":
            raise OutOfMemoryError(content)
        if name in ("error", "crash"):
            raise SamplerError(f"{content}{self._last_log_lines()}")
        return name, content

    @contextmanager
    def _ends_unless_done(self, seconds: float) -> Iterator[None]:
        """End the process if the block takes longer: half an answer would be waited for without end."""
        watch = threading.Timer(seconds, self._process.kill)
        watch.start()
        try:
            yield
        finally:
            watch.cancel()

    def _nonsense(self, error: Exception) -> SamplerError:
        """End the process, whose answer can't be read, and return what to raise."""
        self._process.kill()
        return SamplerError(
            f"the sampling process sent what is no answer ({type(error).__name__}) and was ended. Run again; "
            f"finished samples are kept.{self._last_log_lines()}"
        )

    def _failure(self, error: Exception) -> SamplerError:
        """Say how the process ended."""
        if self._log.closed:
            return SamplerError("the sampling process is closed. Open a new LlamaProcess.")
        try:
            self._process.wait(_ANSWER_SECONDS)
        except subprocess.TimeoutExpired:  # an empty answer reads like the end of the pipe
            return self._nonsense(error)
        code = self._process.returncode
        if code == -signal.SIGABRT and _NO_MEMORY.search(self._whole_log()):
            return OutOfMemoryError(
                f"llama.cpp ran out of memory and aborted. Lower num_sequences.{self._last_log_lines()}"
            )
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if self._is_loading and code in (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGFPE, -signal.SIGBUS):
            files = " and ".join(filter(None, [self.options.base_gguf, self.options.adapter_gguf]))
            return SamplerError(
                f"llama.cpp {how} while it loaded {files}: the file is broken, or of a kind that this llama.cpp does "
                f"not know. Make or download it again.{self._last_log_lines()}"
            )
        advice = "Run again; finished samples are kept."
        if code == -signal.SIGKILL:
            advice = "If memory ran out, lower num_sequences or max_new_tokens; finished samples are kept."
        return SamplerError(f"the sampling process {how}. {advice}{self._last_log_lines()}")

    def hang(self) -> SamplerError:
        """End the process, which makes no step, and return what to raise."""
        self._process.kill()
        return SamplerError(
            f"the sampling process made no step for {self.hang_seconds:g} s and was ended. Finished samples are kept. "
            f"Try fewer threads or a smaller num_sequences.{self._last_log_lines()}"
        )

    def _whole_log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace")

    def _last_log_lines(self) -> str:
        lines = self._whole_log().splitlines()[-_LOG_LINES:]
        return "\nIts last log lines:\n" + "\n".join(lines) if lines else ""


def _start_worker(
    log: IO[bytes], environment: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], Connection[Any, Any], Connection[Any, Any]]:
    """Start the worker. Return it with the pipes for commands and answers."""
    process = subprocess.Popen(
        processes.command("qrft.sampling.backends.llama_cpp.worker"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=processes.environment({**_ENVIRONMENT, **os.environ, **environment}),
    )
    assert process.stdin is not None and process.stdout is not None
    # A Connection closes its descriptor itself, so it gets its own.
    commands: Connection[Any, Any] = Connection(os.dup(process.stdin.fileno()), readable=False)
    answers: Connection[Any, Any] = Connection(os.dup(process.stdout.fileno()), writable=False)
    process.stdin.close()
    process.stdout.close()
    return process, commands, answers
