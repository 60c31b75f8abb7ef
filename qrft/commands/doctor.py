"""See whether this machine is ready: a line for each part of it, with the command that repairs what is wrong.

Nothing heavy is imported: versions are read from the packages' metadata, torch's build from its version.py, and what
llama.cpp sees is asked of a process of its own. What is seen, and what is said of it, are kept apart, so that the tests
can show the second any machine.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from qrft.commands.installed import (
    Build,
    Version,
    bitsandbytes_libraries,
    installed,
    numbers,
    pip,
    required,
    requirement,
    tested,
    tested_file,
    torch_build,
)
from qrft.machine import free_memory, has_bfloat16_unit, nvidia_smi
from qrft.processes import command, environment

FINE, ADVICE, FAULT = "fine", "advice", "fault"
TIME_LIMIT = 10.0  # seconds for a driver or a library to answer; a healthy one takes well under one
GIB = 2**30
LITTLE_MEMORY, LITTLE_DISK, NO_DISK = 4 * GIB, 10 * GIB, GIB
CHILD = "qrft.sampling.backends.llama_cpp.devices"

Seen = tuple[str | None, str, str]  # by llama.cpp: see _ask_llama_cpp


@dataclass(frozen=True)
class Check:
    """What was found, and for anything that is not fine how it is repaired: a command, or a sentence."""

    name: str
    status: str
    found: str
    fix: str = ""


class Card(NamedTuple):
    """A GPU as its driver describes it. Sizes in bytes; `cuda` is the newest CUDA that the driver runs."""

    name: str
    free: float
    total: float
    capability: Version
    driver: str
    cuda: Version


def run(output_dir: Path) -> dict[str, Any]:
    """Check all parts, and say whether `qrft run` can do its work here: on the GPU, where this machine has one."""
    with ThreadPoolExecutor() as pool:
        seen = pool.submit(_ask_llama_cpp)
        cards = _cards()
        checks = [*_machine(cards), *_packages(seen, cards[0] if cards else None), *_places(output_dir)]
    return {
        "is_ready": all(check.status != FAULT for check in checks),
        "checks": [vars(check) for check in checks],
    }


# --------------------------------------------------------------------------------------------------- the machine ----


def _machine(cards: list[Card]) -> Iterator[Check]:
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    if sys.platform == "linux":
        yield Check("system", FINE, system)
    else:
        yield Check("system", FAULT, system, "qrft runs on Linux; on Windows in WSL2: wsl --install")
    yield judge_gpu(cards, _on_the_bus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if cards:
        runs = f", runs CUDA up to {_dotted(cards[0].cuda)}" if cards[0].cuda else ""
        yield Check("driver", FINE, f"{cards[0].driver}{runs}")
    bfloat16 = "with" if has_bfloat16_unit() else "without"
    yield Check("processor", FINE, f"{len(os.sched_getaffinity(0))} cores, {bfloat16} instructions for bfloat16")


def judge_gpu(cards: list[Card], on_the_bus: bool, visible: str | None) -> Check:
    """Judge the GPUs. on_the_bus: the machine has one of NVIDIA's. visible: the variable CUDA_VISIBLE_DEVICES."""
    if not cards and on_the_bus:
        return Check("GPU", FAULT, "NVIDIA's, but its driver does not answer", _driver_fix())
    if not cards:
        return Check("GPU", FINE, "none of NVIDIA's; the processor is enough for tiny models")
    card, others = cards[0], f", and {len(cards) - 1} more" if len(cards) > 1 else ""
    slow = "; no bfloat16, so training computes in float32" if card.capability < (8, 0) else ""
    found = f"{card.name}, {_gib(card.free)} of {_gib(card.total)} free{others}{slow}"
    if visible is not None and visible.strip() in ("", "-1"):
        return Check("GPU", FAULT, f"{found}; CUDA_VISIBLE_DEVICES hides it", "unset CUDA_VISIBLE_DEVICES")
    if card.free < 0.75 * card.total:
        return Check("GPU", ADVICE, found, "nvidia-smi lists the programs that hold its memory: end those you can")
    return Check("GPU", FINE, found)


def _cards() -> list[Card]:
    try:
        rows = nvidia_smi("name", "memory.free", "memory.total", "compute_cap", "driver_version", timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        return []
    cuda = _driver_cuda() if rows else ()
    return [
        Card(name, _mib(free), _mib(total), numbers(capability), driver, cuda)
        for name, free, total, capability, driver in rows
    ]


def _driver_cuda() -> Version:
    """Return the newest CUDA that the driver runs; () where it can't be asked."""
    number = ctypes.c_int()
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number))
    except OSError:
        return ()
    return number.value // 1000, number.value % 1000 // 10


def _on_the_bus() -> bool:
    """Tell whether the machine has a display or compute device of NVIDIA's (PCI's number 10de), whatever drives it."""
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            kind, vendor = ((device / name).read_text().strip() for name in ("class", "vendor"))
        except OSError:
            continue
        if vendor == "0x10de" and kind.startswith("0x03"):
            return True
    return False


def _driver_fix() -> str:
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return "start the container with its GPU: docker run --gpus all ..."
    release = Path("/etc/os-release")
    system = release.read_text() if release.exists() else ""
    install = "ubuntu-drivers install" if re.search(r"^ID=\"?ubuntu", system, re.M) else "apt-get install nvidia-driver"
    return f"sudo {install} && sudo reboot"


def _mib(text: str) -> float:
    return float(text) * 2**20 if re.fullmatch(r"[\d.]+", text) else 0.0  # "[N/A]" of a GPU in parts


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


# -------------------------------------------------------------------------------------------------- the packages ----


def _packages(seen: Future[Seen], card: Card | None) -> Iterator[Check]:
    build = torch_build()
    yield judge_torch(build, card)
    yield judge_bitsandbytes(build, installed("bitsandbytes"), bitsandbytes_libraries())
    yield judge_llama_cpp(*seen.result(), card)
    flash = installed("flash-attn") or "not installed, nor needed: torch has its own kernel"
    yield Check("flash-attention", FINE, flash)
    yield _core()
    yield judge_versions({name: installed(name) for name in required()}, tested())


def judge_torch(build: Build | None, card: Card | None) -> Check:
    """Judge torch's build: whether it was made for this card, and for a CUDA that its driver runs.

    A driver runs programs of its own CUDA's major version and of older ones (NVIDIA, "CUDA Compatibility"). Wheels for
    CUDA 12.8 and later have no code for cards older than Turing, earlier ones none for Blackwell (PyTorch, RELEASE.md).
    """
    if build is None:
        return Check("torch", FAULT, "not installed", f"{pip()} install '{requirement('torch')}'")
    found = f"{build.version}, {_for_cuda(build.cuda)}"
    if card is None:
        return Check("torch", FINE, found)
    if build.cuda is None:
        return Check("torch", FAULT, found, _torch_fix(card))
    if card.cuda and build.cuda[0] > card.cuda[0]:
        return Check(
            "torch", FAULT, f"{found}; the driver {card.driver} runs CUDA {_dotted(card.cuda)}", _torch_fix(card)
        )
    too_old, too_new = card.capability < (7, 5), card.capability >= (10, 0)
    if (too_old and build.cuda >= (12, 8)) or (too_new and build.cuda < (12, 8)):
        found = f"{found}; it has no code for a card of compute capability {_dotted(card.capability)}"
        return Check("torch", FAULT, found, _torch_fix(card))
    return Check("torch", FINE, found)


def _torch_fix(card: Card) -> str:
    if card.capability >= (10, 0) and card.cuda and card.cuda < (13,):
        return f"a newer driver (580 or later) first: {_driver_fix()}"
    is_new = card.capability >= (7, 5) and (not card.cuda or card.cuda >= (13,))
    pinned = tested().get("torch")
    name = f"torch=={pinned}" if pinned else "torch"
    index = f"https://download.pytorch.org/whl/{'cu130' if is_new else 'cu126'}"
    return f"{pip()} install --force-reinstall {name} --index-url {index}"


def judge_bitsandbytes(torch: Build | None, found: str | None, libraries: list[Version]) -> Check:
    """Judge bitsandbytes: it needs a library for the major version of torch's CUDA."""
    fix = f"{pip()} install --force-reinstall --no-deps '{requirement('bitsandbytes')}'"
    if found is None:
        return Check("bitsandbytes", FAULT, "not installed", fix)
    cuda = torch.cuda if torch else None
    if cuda is None:
        return Check("bitsandbytes", FINE, f"{found}, for the processor")
    if all(library[0] != cuda[0] for library in libraries):
        return Check("bitsandbytes", FAULT, f"{found}, has no library for torch's CUDA {_dotted(cuda)}", fix)
    return Check("bitsandbytes", FINE, f"{found}, {_for_cuda(cuda)}")


def _ask_llama_cpp() -> Seen:
    """Return the version of llama-cpp-python, the GPUs that it sees, in words, and why it could not be asked."""
    found = installed("llama-cpp-python")
    if found is None:
        return None, "", ""
    words, own = command(CHILD), environment()
    try:
        done = subprocess.run(words, env=own, capture_output=True, text=True, check=False, timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        return found, "", f"no answer in {TIME_LIMIT:.0f} s"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return found, "", lines[-1] if lines else f"it ended with exit code {done.returncode}"
    lines = done.stdout.strip().splitlines()
    return found, lines[-1] if lines else "", ""


def judge_llama_cpp(found: str | None, gpus: str, failure: str, card: Card | None) -> Check:
    """Judge llama-cpp-python: whether it loads, and on a machine with a card whether it was built for it."""
    name = "llama.cpp"
    if found is None:
        return Check(name, FAULT, "not installed", _llama_fix(card))
    if failure:
        return Check(name, FAULT, f"llama-cpp-python {found} can't be loaded: {failure}", _llama_fix(card))
    if gpus:
        return Check(name, FINE, f"llama-cpp-python {found}, on {gpus}")
    words = f"llama-cpp-python {found}, built for the processor alone"
    if card is None:
        return Check(name, FINE, words)
    return Check(name, FAULT, words, _llama_fix(card))


def _llama_fix(card: Card | None) -> str:
    install = f"{pip()} install --force-reinstall --no-deps --no-cache-dir '{requirement('llama-cpp-python')}'"
    if card is None:
        return install
    code = "".join(map(str, card.capability))
    build = f'CMAKE_ARGS="-DGGML_CUDA=on -DCMAKE_CUDA_ARCHITECTURES={code}" {install}'
    return build if shutil.which("nvcc") else f"sudo apt-get install nvidia-cuda-toolkit && {build}"


def _core() -> Check:
    try:
        from qrft.grading import native  # noqa: F401
    except ImportError as error:
        root = Path(__file__).parents[2]
        what = shlex.quote(str(root)) if (root / "pyproject.toml").exists() else "--force-reinstall --no-deps qrft"
        return Check("core", FAULT, str(error).partition(". ")[0], f"{pip()} install {what}")
    return Check("core", FINE, "qrft's C core loads")


def judge_versions(there: dict[str, str | None], known: dict[str, str]) -> Check:
    """Judge the packages that qrft requires: missing or out of range is a fault, another than the tested is told."""
    from packaging.requirements import Requirement

    wrong, other = [], []
    for name, found in there.items():
        wanted = Requirement(requirement(name))
        if found is None or not wanted.specifier.contains(found, prereleases=True):
            wrong.append((str(wanted), f"{name} {found or 'missing'}"))
        elif name in known and found.partition("+")[0] != known[name]:
            other.append(f"{name} {found} (tested {known[name]})")
    if wrong:
        fix = f"{pip()} install {' '.join(shlex.quote(requirement) for requirement, _ in wrong)}"
        return Check("versions", FAULT, ", ".join(words for _, words in wrong), fix)
    if other:
        fix = f"if something fails, install the tested ones: {pip()} install -c {shlex.quote(str(tested_file()))} qrft"
        return Check("versions", ADVICE, ", ".join(other), fix)
    return Check("versions", FINE, f"{len(there)} packages as tested")


def _dotted(found: Version) -> str:
    return ".".join(map(str, found))


def _for_cuda(cuda: Version | None) -> str:
    return f"for CUDA {_dotted(cuda)}" if cuda else "built for the processor alone"


# ---------------------------------------------------------------------------------------------- memory, disk, hub ----


def _places(output_dir: Path) -> Iterator[Check]:
    yield judge_memory(free_memory())
    yield judge_disk(output_dir)
    yield _hub()


def judge_memory(free: float) -> Check:
    """Judge the main memory."""
    if free < LITTLE_MEMORY:
        fix = "end other programs, or train a smaller model: qrft plan RECIPE says what each step needs"
        return Check("memory", ADVICE, f"{_gib(free)} free", fix)
    return Check("memory", FINE, f"{_gib(free)} free")


def judge_disk(output_dir: Path) -> Check:
    """Judge the place for the runs: whether it can be written to, and what is free there."""
    folder = next(place for place in (output_dir.absolute(), *output_dir.absolute().parents) if place.exists())
    elsewhere = "choose another place: qrft run RECIPE -o FOLDER"
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        reason = "may not be written to" if folder.is_dir() else "is not a folder"
        return Check("disk", FAULT, f"{folder} {reason}", elsewhere)
    free = shutil.disk_usage(folder).free
    found = f"{_gib(free)} free for {output_dir}"
    if free < LITTLE_DISK:
        return Check("disk", FAULT if free < NO_DISK else ADVICE, found, f"qrft gc frees some, or {elsewhere}")
    return Check("disk", FINE, found)


def _hub() -> Check:
    """Say whether there is a token for gated models; it is not read, and nothing is asked of the hub."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    token = Path(os.environ.get("HF_TOKEN_PATH") or home / "token").expanduser()
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return Check("hub", ADVICE, "switched off: only what is on this machine is used", "unset HF_HUB_OFFLINE")
    if os.environ.get("HF_TOKEN") or token.is_file():
        return Check("hub", FINE, "logged in")
    return Check("hub", FINE, "not logged in, which only gated models need: hf auth login")
