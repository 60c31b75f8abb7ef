"""What a GGUF file makes of questions by itself: its own chat template, tokenizer and ends, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qrft import processes
from qrft.errors import ModelError

MAX_SECONDS = 600.0  # a template is an untrusted program; 10,000 lines take a second


class OwnPrompts(NamedTuple):
    """Token ids. `prompts`: of each question, as llama-cpp-python applies the template. `served`: the same as
    llama-server and Ollama do, which put the beginning-of-text token themselves where the file says so. `texts`: of
    plain texts. `ends`: the tokens that end an answer."""

    prompts: list[list[int]]
    served: list[list[int]]
    texts: list[list[int]]
    ends: list[int]


def own_prompts(file: Path, questions: Sequence[str], texts: Sequence[str]) -> OwnPrompts:
    """Ask the file. Raises ModelError where llama.cpp can't read it, or its template fails."""
    request = json.dumps({"file": str(file.absolute()), "questions": list(questions), "texts": list(texts)})
    try:
        done = subprocess.run(
            processes.command("qrft.models.gguf.own_prompts"),
            input=request.encode(),
            capture_output=True,
            timeout=MAX_SECONDS,
            env=processes.environment(),
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"{file}: its chat template takes more than {MAX_SECONDS:g} seconds. Repair it.") from None
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ModelError(
            f"{file}: llama.cpp can't ask it ({lines[-1] if lines else 'no reason given'}). Export it again."
        )
    return OwnPrompts(**json.loads(done.stdout))


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    import llama_cpp.llama_cpp as lib
    from llama_cpp._internals import LlamaModel
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    params = lib.llama_model_default_params()
    params.vocab_only = True
    model = LlamaModel(path_model=request["file"], params=params, verbose=False)
    metadata = model.metadata()
    bos, eos = (model.token_get_text(token) if token != -1 else "" for token in (model.token_bos(), model.token_eos()))
    formatter = Jinja2ChatFormatter(metadata["tokenizer.chat_template"], eos_token=eos, bos_token=bos)
    puts_bos = metadata.get("tokenizer.ggml.add_bos_token") == "true"
    written = [formatter(messages=[{"role": "user", "content": text}]).prompt for text in request["questions"]]
    served = [text.removeprefix(bos) if puts_bos else text for text in written]
    return {
        "prompts": [model.tokenize(text.encode(), add_bos=False, special=True) for text in written],
        "served": [model.tokenize(text.encode(), add_bos=True, special=True) for text in served],
        "texts": [model.tokenize(text.encode(), add_bos=False, special=False) for text in request["texts"]],
        "ends": [token for token in range(model.n_vocab()) if lib.llama_vocab_is_eog(model.vocab, token)],
    }


def main() -> None:
    """Run as the process: a request from stdin, its answer to stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C, and ends this process
    processes.end_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what llama.cpp prints is no answer
    json.dump(_answer(json.load(sys.stdin)), answers)
    answers.close()
    sys.stderr.flush()
    os._exit(0)  # llama.cpp's destructors may call a log callback that no longer exists


if __name__ == "__main__":
    main()
