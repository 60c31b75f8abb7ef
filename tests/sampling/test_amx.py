"""llama.cpp's kernels for AMX are used where a trial shows that they run, and left out otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.models import make_model

from qrft import processes
from qrft.data.disk import cache_folder
from qrft.data.sealed import read_sealed
from qrft.models.gguf.base import export_base
from qrft.sampling.backends.llama_cpp import amx


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("amx")
    export_base(make_model(root / "model", hidden_size=128, intermediate_size=256), root / "base.gguf", "q8_0")
    return str(root / "base.gguf")


def test_a_build_whose_kernels_run_is_found_right(base: str) -> None:
    """On whatever processor runs this: the trial is of the layout that llama.cpp chooses for it."""
    assert amx.is_right(base)


@pytest.mark.parametrize("end", ["import os; os.abort()", "raise SystemExit(1)", "import time; time.sleep(60)"])
def test_one_that_crashes_differs_or_hangs_is_not(base: str, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = [*processes.command("amx")[:1], "-c", end]
    monkeypatch.setattr(processes, "command", lambda module: program)
    monkeypatch.setattr(amx, "_SECONDS", 2)
    assert not amx.is_right(base)


def test_other_weights_would_be_noticed(base: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    export_base(make_model(tmp_path / "model", hidden_size=128, intermediate_size=192), tmp_path / "other.gguf", "q8_0")
    logits = amx._logits
    files = {False: base, True: str(tmp_path / "other.gguf")}
    monkeypatch.setattr(amx, "_logits", lambda _, is_laid_out: logits(files[is_laid_out], is_laid_out))
    monkeypatch.setattr("sys.argv", ["amx", base])
    with pytest.raises(SystemExit) as ended:
        amx.main()
    assert ended.value.code


def test_it_is_tried_once_and_only_where_the_build_knows_amx(
    base: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    trials: list[str] = []
    monkeypatch.setattr(amx, "is_right", lambda file: bool(trials.append(file)))
    monkeypatch.setattr(amx.lib, "llama_print_system_info", lambda: b"AVX2 = 1")
    assert amx.may_have_weights(base) and not trials
    monkeypatch.setattr(amx.lib, "llama_print_system_info", lambda: b"AMX_INT8 = 1")
    assert not amx.may_have_weights(base) and not amx.may_have_weights(base)
    assert trials == [base]
    kept = cache_folder() / "amx.json"
    assert list(read_sealed(kept).values()) == [False]
    kept.write_text("[")
    assert not amx.may_have_weights(base) and len(trials) == 2
