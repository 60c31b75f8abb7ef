"""llama.cpp's `llama-batched-bench`, built from llama-cpp-python's source distribution, run on the installed library.

The program reads `--lora` and drops it; _APPLY_ADAPTERS is added, so that it measures what it was asked to. It also
logs from a thread that now and then ends before the figures are out, so it is made to print them itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from qrft.sampling.backends.llama_cpp import amx

_BEFORE = "    const llama_vocab * vocab   = llama_model_get_vocab(model);\n"
_APPLY_ADAPTERS = """
#undef LOG
#define LOG(...) printf(__VA_ARGS__)
    std::vector<llama_adapter_lora *> adapters;
    std::vector<float> scales;
    for (auto & wanted : params.lora_adapters) {
        adapters.push_back(llama_adapter_lora_init(model, wanted.path.c_str()));
        scales.push_back(wanted.scale);
        if (adapters.back() == NULL) { return 1; }
    }
    if (llama_set_adapters_lora(ctx, adapters.data(), adapters.size(), scales.data()) != 0) { return 1; }
"""
_SWITCHES = ("LLAMA_CURL", "LLAMA_OPENSSL", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_SERVER")


def build(cache: Path) -> Path:
    """The program, built into `cache` with CMake's defaults (as the wheel is) unless it is there. Minutes."""
    release = version("llama-cpp-python")
    folder = cache / f"llama_cpp_python-{release}"
    program = folder / "build" / "bin" / "llama-batched-bench"
    if program.is_file():
        return program
    cache.mkdir(parents=True, exist_ok=True)
    wanted = ["--no-deps", "--no-binary", "llama-cpp-python", f"llama-cpp-python=={release}"]
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "-d", str(cache), *wanted], check=True)
    with tarfile.open(cache / f"{folder.name}.tar.gz") as archive:
        archive.extractall(cache, filter="data")
    source = folder / "vendor" / "llama.cpp"
    _add_adapters(source / "tools" / "batched-bench" / "batched-bench.cpp")
    switches = ["-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=ON", *(f"-D{name}=OFF" for name in _SWITCHES)]
    subprocess.run(["cmake", "-S", str(source), "-B", str(folder / "build"), *switches], check=True)
    cores = str(len(os.sched_getaffinity(0)))
    command = ["cmake", "--build", str(folder / "build"), "--target", "llama-batched-bench", "-j", cores]
    subprocess.run(command, check=True)
    return program


def run(program: Path, model: Path, adapter: Path | None, **options: object) -> dict[str, float]:
    """One measurement: the program's own figures. Options: npp, ntg, npl, unified, flash_attention, threads."""
    npp, ntg, npl = (int(str(options[name])) for name in ("npp", "ntg", "npl"))
    unified = bool(options["unified"])
    room = -(-(npp + ntg + 1) // 256) * 256  # what llama.cpp rounds a sequence's cells to
    command = [str(program), "-m", str(model), "-npp", str(npp), "-ntg", str(ntg), "-npl", str(npl), "-pps"]
    command += ["-c", str(npp + npl * ntg + 256 if unified else npl * room), "-b", "2048", "-ub", "512"]
    command += ["-fa", "on" if options["flash_attention"] else "off", "-t", str(options["threads"])]
    command += ["--output-format", "jsonl", "-kvu" if unified else "-no-kvu"]
    command += [] if amx.may_have_weights(str(model)) else ["--no-repack"]
    command += ["--lora", str(adapter)] if adapter else []
    done = subprocess.run(command, capture_output=True, text=True, env=_installed_library())
    found = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not found:
        raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stdout}{done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(found[0])
    return figures


def _installed_library() -> dict[str, str]:
    """The environment in which the program loads the libllama that Python loads: both sides run the same code."""
    spec = find_spec("llama_cpp")
    assert spec is not None and spec.origin is not None
    return {**os.environ, "LD_LIBRARY_PATH": str(Path(spec.origin).parent / "lib")}


def _add_adapters(source: Path) -> None:
    text = source.read_text()
    if text.count(_BEFORE) != 1:
        raise SystemExit(f"{source}: another version than the one this was written for. Place _APPLY_ADAPTERS anew.")
    source.write_text(text.replace(_BEFORE, _APPLY_ADAPTERS + _BEFORE))
