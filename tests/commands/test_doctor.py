"""`qrft doctor`: what is wrong with a machine is told with the command that repairs it, and nothing heavy is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.commands import command_line, environment, facts_of, python, run_process, run_qrft

from qrft.cli.main import main
from qrft.commands import doctor, installed
from qrft.commands.doctor import ADVICE, FAULT, FINE, GIB, Card
from qrft.commands.installed import Build

RTX_3090 = Card("NVIDIA GeForce RTX 3090", 23 * GIB, 24 * GIB, (8, 6), "580.65.06", (13, 0))
OLD_DRIVER = RTX_3090._replace(driver="550.54.14", cuda=(12, 4))
PASCAL = OLD_DRIVER._replace(name="NVIDIA GeForce GTX 1080", capability=(6, 1))
BLACKWELL = RTX_3090._replace(name="NVIDIA GeForce RTX 5090", capability=(12, 0))
PARTS = ["system", "GPU", "processor", "torch", "bitsandbytes", "llama.cpp", "flash-attention", "core", "versions"]
PLACES = ["memory", "disk", "hub"]


def on_the_path(folder: Path, name: str, output: str) -> str:
    """Put a program that prints the output before all others, and return the path."""
    program = folder / name
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\n")
    program.chmod(0o755)
    return f"{folder}:{environment()['PATH']}"


def test_this_machine(tmp_path: Path) -> None:
    """The machine that runs the tests can run qrft; where it has a GPU, nothing may be wrong with that either."""
    facts = facts_of("doctor", "-o", tmp_path)
    assert [check["name"] for check in facts["checks"] if check["name"] != "driver"] == PARTS + PLACES
    assert facts["is_ready"] is all(check["status"] != "fault" for check in facts["checks"])
    shown = run_qrft("doctor", "-o", tmp_path).output
    assert "Ready: " in shown and max(map(len, shown.splitlines())) <= 80


def test_a_card_that_nothing_was_built_for(tmp_path: Path) -> None:
    """torch and llama.cpp for the processor alone, on a machine whose driver has a card."""
    if installed.torch_build() != Build(str(installed.tested()["torch"]) + "+cpu", None):
        pytest.skip("torch is built for CUDA here")
    path = on_the_path(tmp_path, "nvidia-smi", "NVIDIA GeForce RTX 3090, 23000, 24576, 8.6, 580.65.06")
    done = run_process(command_line("doctor", "--json", "-o", tmp_path), 1, PATH=path)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert {name for name, check in checks.items() if check["status"] == "fault"} == {"torch", "llama.cpp"}
    assert checks["GPU"]["found"] == "NVIDIA GeForce RTX 3090, 22.5 GiB of 24.0 GiB free"
    assert checks["torch"]["fix"].endswith(
        f"torch=={installed.tested()['torch']} --index-url https://download.pytorch.org/whl/cu130"
    )
    assert "-DCMAKE_CUDA_ARCHITECTURES=86" in checks["llama.cpp"]["fix"]
    shown = run_process(command_line("doctor", "-o", tmp_path), 1, PATH=path).stdout
    assert "FAULT  torch " in shown and "Not ready: 2 faults." in shown
    assert checks["llama.cpp"]["fix"] in shown, "a command is one piece, to be copied"


def test_a_driver_that_does_not_answer(tmp_path: Path) -> None:
    failure = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    path = on_the_path(tmp_path, "nvidia-smi", failure)
    done = run_process(command_line("doctor", "--json", "-o", tmp_path), PATH=path)
    assert "none of NVIDIA's" in json.loads(done.stdout)["checks"][1]["found"]
    assert doctor.judge_gpu([], True, None).status == FAULT
    assert "driver" in doctor.judge_gpu([], True, None).found


def test_nothing_heavy_is_loaded(tmp_path: Path) -> None:
    code = """
        import sys
        from click.testing import CliRunner
        from qrft.cli.main import main
        assert CliRunner().invoke(main, ["doctor", "-o", sys.argv[1]]).exit_code == 0
        print(*sorted({"torch", "transformers", "bitsandbytes", "llama_cpp", "pyarrow", "numpy"} & set(sys.modules)))
    """
    assert run_process(python(code, tmp_path)).stdout.strip() == ""


@pytest.mark.parametrize(
    ("build", "card", "status", "words"),
    [
        (None, None, FAULT, "torch>=2.6"),
        (Build("2.13.0+cpu", None), None, FINE, ""),
        (Build("2.13.0+cu130", (13, 0)), RTX_3090, FINE, ""),
        (Build("2.13.0+cu126", (12, 6)), RTX_3090, FINE, ""),
        (Build("2.13.0+cu126", (12, 6)), OLD_DRIVER, FINE, ""),
        (Build("2.13.0+cu130", (13, 0)), OLD_DRIVER, FAULT, "whl/cu126"),
        (Build("2.13.0+cpu", None), OLD_DRIVER, FAULT, "whl/cu126"),
        (Build("2.13.0+cpu", None), RTX_3090, FAULT, "whl/cu130"),
        (Build("2.13.0+cu130", (13, 0)), PASCAL._replace(cuda=(13, 0)), FAULT, "whl/cu126"),
        (Build("2.13.0+cu126", (12, 6)), PASCAL, FINE, ""),
        (Build("2.13.0+cu126", (12, 6)), BLACKWELL, FAULT, "whl/cu130"),
        (Build("2.13.0+cu126", (12, 6)), BLACKWELL._replace(cuda=(12, 8)), FAULT, "a newer driver (580 or later)"),
    ],
)
def test_torch_for_a_card(build: Build | None, card: Card | None, status: str, words: str) -> None:
    found = doctor.judge_torch(build, card)
    assert found.status == status and words in found.fix and bool(found.fix) is (status != FINE)


def test_bitsandbytes_has_a_library_for_the_cuda_of_torch() -> None:
    torch = Build("2.13.0+cu130", (13, 0))
    assert doctor.judge_bitsandbytes(torch, "0.50.2", [(11, 8), (12, 6), (13, 2)]).status == FINE
    assert doctor.judge_bitsandbytes(torch, "0.45.0", [(11, 8), (12, 6)]).status == FAULT
    assert doctor.judge_bitsandbytes(Build("2.13.0+cpu", None), "0.50.2", []).status == FINE
    assert doctor.judge_bitsandbytes(torch, None, []).status == FAULT


def test_llama_cpp(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.judge_llama_cpp("0.3.36", "", "", None).status == FINE
    assert doctor.judge_llama_cpp("0.3.36", "CUDA0 (23.60 GiB)", "", RTX_3090).status == FINE
    missing = doctor.judge_llama_cpp("0.3.36", "", "OSError: libgomp.so.1: cannot open shared object file", None)
    assert missing.status == FAULT and "libgomp.so.1" in missing.found
    assert missing.fix.endswith("--no-cache-dir 'llama-cpp-python==0.3.36'")
    monkeypatch.setenv("PATH", "/nowhere")  # without nvcc
    assert "nvidia-cuda-toolkit && CMAKE_ARGS=" in doctor.judge_llama_cpp("0.3.36", "", "", RTX_3090).fix


def test_the_gpu() -> None:
    assert doctor.judge_gpu([RTX_3090], True, None).status == FINE
    assert doctor.judge_gpu([RTX_3090], True, "").fix == "unset CUDA_VISIBLE_DEVICES"
    assert doctor.judge_gpu([RTX_3090._replace(free=10 * GIB)], True, "0").status == ADVICE
    assert "and 1 more" in doctor.judge_gpu([RTX_3090, RTX_3090], True, None).found
    assert "no bfloat16" in doctor.judge_gpu([PASCAL], True, None).found


def test_versions() -> None:
    known = installed.tested()
    as_tested = {name: known[name] for name in installed.required()}
    assert {"torch", "llama-cpp-python", "pyarrow", "httpx2"} <= set(as_tested)
    assert doctor.judge_versions(as_tested, known).status == FINE
    assert doctor.judge_versions({**as_tested, "torch": f"{known['torch']}+cu130"}, known).status == FINE
    newer = doctor.judge_versions({**as_tested, "peft": "0.99.0"}, known)
    assert (newer.status, newer.found) == (ADVICE, f"peft 0.99.0 (tested {known['peft']})")
    wrong = doctor.judge_versions({**as_tested, "transformers": "4.57.0", "gguf": None}, known)
    assert (wrong.status, wrong.found) == (FAULT, "transformers 4.57.0, gguf missing")
    assert "install 'transformers<6,>=5' 'gguf>=0.17'" in wrong.fix


def test_memory_and_disk(tmp_path: Path) -> None:
    assert doctor.judge_memory(GIB).status == ADVICE
    assert doctor.judge_memory(64 * GIB).status == FINE
    assert doctor.judge_disk(tmp_path / "new" / "runs").status in (FINE, ADVICE)
    (tmp_path / "file").write_text("")
    found = doctor.judge_disk(tmp_path / "file" / "runs")
    assert found.status == FAULT and found.found == f"{tmp_path / 'file'} is not a folder"


@pytest.mark.parametrize(
    ("variable", "words"),
    [("HF_HUB_OFFLINE", "switched off"), ("HF_TOKEN", "logged in"), ("HF_HOME", "not logged in")],
)
def test_the_hub(variable: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv(variable, str(tmp_path) if variable == "HF_HOME" else "1")
    assert doctor._hub().found.startswith(words)


def test_a_file_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(main, ["doctor", "-o", str(tmp_path / "file")])
    assert done.exit_code == 2 and "is a file" in done.stderr


def test_no_module_of_the_current_folder_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python looks for modules there first, and the folder may be somebody's download."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ctypes.py").write_text("open('ran', 'w')")
    doctor._ask_llama_cpp()
    assert not (tmp_path / "ran").exists()
