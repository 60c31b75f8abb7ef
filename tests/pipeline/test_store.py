"""The store: names that never drift, artifacts that are whole or absent, locks that die with their process."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrft.data import checked, file_hashes
from qrft.data.disk import disk_errors, hash_file, link, lock, write_atomic
from qrft.errors import DamagedError, DataError, StoreError
from qrft.pipeline.store import Store, digest, manifest, verify

DIGEST = "0123456789abcdef0123"
GIVEN: dict[str, Any] = {
    "config": {"k": 1},
    "inputs": {},
    "seconds": 1.5,
    "peak_memory_bytes": 1,
    "report": {"rows": 2},
}


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that runs the script and has printed its first line."""
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def make(store: Store, text: str = "data") -> Path:
    work = store.begin("sample", DIGEST)
    (work / "inner").mkdir()
    (work / "inner/a.txt").write_text(text)
    (work / "b.bin").write_bytes(b"\0" * 10)
    (work / "partial/checkpoint").write_text("x")
    return store.commit(work, GIVEN)


# -------------------------------------------------------------------------------------------------------------- digest


def test_digest_never_changes() -> None:
    """A change here makes every store of every user worthless: it must be meant."""
    config = {"b": [1, 2.5, None, True], "a": {"é": "x", "lr": 1e-4}}
    assert digest("train", 1, config, {"rows": "grade-00"}) == "258fc657d55011363f24"


def test_digest_depends_on_everything() -> None:
    calls: list[tuple[str, int, dict[str, Any], dict[str, str]]] = [
        ("a", 1, {}, {}),
        ("b", 1, {}, {}),
        ("a", 2, {}, {}),
        ("a", 1, {"x": 1}, {}),
        ("a", 1, {"x": 1.0}, {}),
        ("a", 1, {"x": 0.1}, {}),
        ("a", 1, {"x": float(np.nextafter(0.1, 1))}, {}),
        ("a", 1, {"x": "1"}, {}),
        ("a", 1, {}, {"x": "1"}),
    ]
    assert len({digest(*call) for call in calls}) == len(calls)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Path("x"), {1}])
def test_digest_refuses_what_has_no_canonical_form(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        digest("a", 1, {"x": value}, {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=4), st.dictionaries(st.text(), st.text(), max_size=3))
def test_digest_is_stable_across_order_and_json(config: dict[str, Any], inputs: dict[str, str]) -> None:
    name = digest("a", 1, config, inputs)
    assert name == digest("a", 1, reversed_keys(config), reversed_keys(inputs))
    assert name == digest("a", 1, json.loads(json.dumps(config)), inputs)
    assert len(name) == 20 and set(name) <= set("0123456789abcdef")


def test_digest_is_the_same_in_another_process() -> None:
    script = "from qrft.pipeline.store import digest; print(digest('a', 1, {'y': 0.1, 'x': {'b', }.pop()}, {}))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    out = subprocess.run([sys.executable, "-c", script], env=environment, text=True, capture_output=True, check=True)
    assert out.stdout.strip() == digest("a", 1, {"x": "b", "y": 0.1}, {})


# ----------------------------------------------------------------------------------------------------------- artifacts


def test_commit_makes_the_artifact_visible_with_its_manifest(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert not store.has("sample", DIGEST)
    artifact = make(store)
    assert artifact == store.path("sample", DIGEST) and store.has("sample", DIGEST)
    values = verify(artifact, fresh=True)
    assert values == manifest(artifact)
    assert (values["stage"], values["digest"], values["report"]) == ("sample", DIGEST, {"rows": 2})
    assert {name: entry["bytes"] for name, entry in values["files"].items()} == {"b.bin": 10, "inner/a.txt": 4}
    assert values["versions"]["torch"] and values["versions"]["python"] and values["created"].endswith("+00:00")
    assert sorted(path.name for path in artifact.iterdir()) == ["b.bin", "inner", "manifest.json"]
    assert list((tmp_path / "store/tmp").iterdir()) == []


def test_versions_import_no_heavy_package() -> None:
    heavy = "{'torch', 'numpy', 'pyarrow'} & set(sys.modules)"
    script = f"import sys, qrft.pipeline.store; qrft.pipeline.store._versions(); print({heavy})"
    out = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True, check=True)
    assert out.stdout == "set()\n"


def test_a_report_with_odd_numbers_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    work = store.begin("train", DIGEST)
    report = {
        "loss": float("nan"),
        "rows": np.int64(3),
        "curve": np.array([1.0, np.inf]),
        "path": Path("x"),
        1: (True,),
    }
    artifact = store.commit(work, {**GIVEN, "report": report})
    assert manifest(artifact)["report"] == {"loss": None, "rows": 3, "curve": [1.0, None], "path": "x", "1": [True]}


def test_a_manifest_must_be_complete(tmp_path: Path) -> None:
    store = Store(tmp_path)
    work = store.begin("train", DIGEST)
    with pytest.raises(ValueError, match="lacks report, seconds"):
        store.commit(work, {"config": {}, "inputs": {}, "peak_memory_bytes": 0})


def test_the_same_artifact_is_kept(tmp_path: Path) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    make(first, "first")
    assert make(second, "second") == first.path("sample", DIGEST)
    assert (first.path("sample", DIGEST) / "inner/a.txt").read_text() == "first"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_folder_without_manifest_is_no_artifact_and_is_kept_elsewhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    store.path("sample", DIGEST).mkdir()
    (store.path("sample", DIGEST) / "mine").write_text("precious")
    assert not store.has("sample", DIGEST)
    make(store)
    assert store.has("sample", DIGEST)
    (kept,) = (tmp_path / "damaged").iterdir()
    assert (kept / "mine").read_text() == "precious"
    assert f"has no manifest.json, so it was moved to {kept}. Remove that if" in caplog.text


@pytest.mark.parametrize(("stage", "name"), [("../x", DIGEST), ("", DIGEST), ("a", "../b"), ("a", "")])
def test_names_stay_inside_the_store(tmp_path: Path, stage: str, name: str) -> None:
    with pytest.raises(ValueError, match="not the name of an artifact"):
        Store(tmp_path).begin(stage, name)


@pytest.mark.parametrize("target", [".", "b.bin"])
def test_links_are_no_part_of_an_artifact(tmp_path: Path, target: str) -> None:
    store = Store(tmp_path)
    work = store.begin("sample", DIGEST)
    (work / "link").symlink_to(target)
    with pytest.raises(StoreError, match=r"link: is not a plain file"):
        store.commit(work, GIVEN)
    assert not store.has("sample", DIGEST)


def write_other(path: Path) -> None:
    path.write_bytes(b"\1" * 10)


def cut(path: Path) -> None:
    path.write_bytes(b"\0")


def replace_with_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (write_other, "has other contents than its manifest says"),
        (cut, "has 1 bytes, but its manifest says 10"),
        (Path.unlink, "No such file or directory"),
        (replace_with_folder, r"has \d+ bytes, but its manifest says 10|Is a directory"),
    ],
)
def test_a_damaged_file_is_named_and_its_artifact_is_made_again(
    tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    store = Store(tmp_path)
    artifact = make(store)
    assert store.has("sample", DIGEST) and store.damage("sample", DIGEST) is None
    damage(artifact / "b.bin")
    with pytest.raises(DamagedError, match=f"^{artifact}/b.bin: ({words}). Run the recipe again"):
        verify(artifact)
    assert not store.has("sample", DIGEST) and str(artifact / "b.bin") in (store.damage("sample", DIGEST) or "")
    make(store)
    assert verify(artifact, fresh=True) and store.has("sample", DIGEST)
    assert sorted(path.name for path in tmp_path.iterdir()) == [artifact.name, "tmp"]


def test_a_file_changed_back_in_its_times_is_noticed(tmp_path: Path) -> None:
    artifact = make(Store(tmp_path))
    times = (artifact / "b.bin").stat()
    write_other(artifact / "b.bin")
    os.utime(artifact / "b.bin", ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(DamagedError, match=r"b\.bin: has other contents"):
        verify(artifact)


def test_what_was_read_once_is_not_read_again_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bit that the disk lost shows in no time of a file: only reading it afresh finds it, and is then believed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(file_hashes, "SETTLED_SECONDS", -1.0)
    artifact = make(Store(tmp_path / "store"))
    read: list[Path] = []
    rotten: set[Path] = set()

    def watched(path: Path) -> str:
        read.append(path)
        return "rotten" if path in rotten else hash_file(path)

    monkeypatch.setattr(checked, "hash_file", watched)
    verify(artifact)
    assert len(read) == 2
    verify(artifact)
    assert len(read) == 2, "read again"
    rotten.add(artifact / "b.bin")
    verify(artifact)
    with pytest.raises(DamagedError, match=r"b\.bin: has other contents"):
        verify(artifact, fresh=True)
    with pytest.raises(DamagedError, match=r"b\.bin: has other contents"):
        verify(artifact)


def test_an_unreadable_file_of_another_user_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be whole: it must not be made again in its place."""
    artifact = make(Store(tmp_path))
    monkeypatch.setattr(checked, "state", lambda path: os.stat(_raise(PermissionError(errno.EACCES, "", str(path)))))
    with pytest.raises(StoreError, match=r"b\.bin: Permission denied. Make it writable") as caught:
        Store(tmp_path).has("sample", DIGEST)
    assert not isinstance(caught.value, DamagedError) and artifact.exists()


def _raise(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "{}", "\ufeff\0", '{"files": {"a": 1}}', '{"files": {"../b": {"bytes": 1, "blake2b": ""}}}']
)
def test_a_damaged_manifest(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path)
    artifact = make(store)
    (artifact / "manifest.json").write_text(text)
    with pytest.raises(DamagedError, match=r"manifest\.json: is not a manifest .*Run the recipe again"):
        verify(artifact)
    make(store)
    (artifact / "manifest.json").unlink()
    with pytest.raises(DamagedError, match=r"manifest\.json: No such file"):
        manifest(artifact)
    make(store)
    assert verify(artifact)


def test_any_bit_of_a_manifest_that_changes_its_meaning_is_noticed(tmp_path: Path) -> None:
    """The report and its figures are shown to people: they must not be others."""
    path = make(Store(tmp_path)) / "manifest.json"
    whole, values = path.read_bytes(), manifest(path.parent)
    for bit in range(0, 8 * len(whole), 5):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with contextlib.suppress(DamagedError):
            found = manifest(path.parent)
            assert {key: found[key] for key in values} == values


def test_artifacts_of_earlier_versions_have_no_checksum_and_are_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = make(store)
    values = manifest(artifact)
    (artifact / "manifest.json").write_text(json.dumps(values))
    assert manifest(artifact) == values and store.has("sample", DIGEST)


def test_a_link_to_an_artifact_elsewhere_is_removed_without_its_target(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    artifact, moved = make(store), tmp_path / "moved"
    artifact.rename(moved)
    artifact.symlink_to(moved)
    assert store.has("sample", DIGEST)
    write_other(moved / "b.bin")
    make(store)
    assert verify(artifact) and not artifact.is_symlink() and (moved / "b.bin").read_bytes() == b"\1" * 10


def test_an_artifact_damaged_while_it_is_made_elsewhere_is_replaced(tmp_path: Path) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    work = second.begin("sample", DIGEST)
    (work / "b.bin").write_bytes(b"new")
    second._release(work)
    artifact = make(first)
    work.mkdir()
    (work / "b.bin").write_bytes(b"new")
    write_other(artifact / "b.bin")
    second.commit(work, GIVEN)
    assert verify(artifact) and (artifact / "b.bin").read_bytes() == b"new"


# -------------------------------------------------------------------------------------------------------------- crashes


def test_kill_in_a_stage_leaves_only_its_checkpoints(tmp_path: Path) -> None:
    script = """
    import sys, time
    from pathlib import Path
    from qrft.pipeline.store import Store
    store = Store(Path(sys.argv[1]))
    work = store.begin("sample", sys.argv[2])
    (work / "partial/checkpoint").write_text("step 3")
    (work / "half").write_text("ha")
    print("ready", flush=True)
    time.sleep(60)
    """
    process = start(script, tmp_path, DIGEST)
    store = Store(tmp_path)
    with pytest.raises(
        StoreError, match=rf"sample-{DIGEST} is being made by process {process.pid} \(since 20.*\); wait"
    ):
        store.begin("sample", DIGEST)
    kill(process)
    assert not store.has("sample", DIGEST)
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]
    work = store.begin("sample", DIGEST)
    assert work == tmp_path / f"tmp/sample-{DIGEST}" == store.begin("sample", DIGEST)
    assert [path.name for path in work.iterdir()] == ["partial"]
    assert (work / "partial/checkpoint").read_text() == "step 3"


@pytest.mark.parametrize("moment", ["_file_entry", "write_atomic", "sync_folders", "_publish", "_sync_root"])
def test_kill_at_any_moment_of_a_commit(tmp_path: Path, moment: str) -> None:
    """Whatever the moment, the artifact is whole or absent, and absent means the checkpoints are still there."""
    script = """
    import os, signal, sys
    from pathlib import Path
    import qrft.pipeline.store as stores
    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)
    moment, root = sys.argv[1], Path(sys.argv[2])
    store = stores.Store(root)
    work = store.begin("sample", sys.argv[3])
    (work / "a").write_text("a")
    (work / "partial/checkpoint").write_text("x")
    if moment == "_publish":
        stores.Store._publish = die
    elif moment == "_sync_root":
        sync = stores.sync
        stores.sync = lambda path: die() if path == root else sync(path)
    else:
        setattr(stores, moment, die)
    given = dict(config={}, inputs={}, seconds=0, peak_memory_bytes=0, report={})
    store.commit(work, given)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), moment, str(tmp_path), DIGEST]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    store = Store(tmp_path)
    if moment == "_sync_root":
        verify(store.path("sample", DIGEST), fresh=True)
    else:
        assert not store.has("sample", DIGEST)
        work = store.begin("sample", DIGEST)
        assert [path.name for path in work.iterdir()] == ["partial"]
        assert (work / "partial/checkpoint").read_text() == "x"


def test_a_dropped_store_lets_go(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin("sample", DIGEST)
    del store
    Store(tmp_path).begin("sample", DIGEST)


# ---------------------------------------------------------------------------------------------------------------- lock


def test_a_run_folder_is_held_by_one_process(tmp_path: Path) -> None:
    script = """
    import sys, time
    from pathlib import Path
    from qrft.data.disk import lock
    with lock(Path(sys.argv[1])):
        print("ready", flush=True)
        time.sleep(60)
    """
    run_dir = tmp_path / "runs/tiny"
    process = start(script, run_dir)
    message = (
        rf"run folder {run_dir} is in use by process {process.pid} \(since 20\S+\); wait for it or choose another --n"
    )
    with pytest.raises(StoreError, match=message), lock(run_dir):
        pass
    kill(process)
    with lock(run_dir):
        pass
    with lock(run_dir):
        pass


# ------------------------------------------------------------------------------------------------------ links and files


def test_links_are_relative_and_replaced(tmp_path: Path) -> None:
    for target in ("a", "b"):
        (tmp_path / "store" / target).mkdir(parents=True)
    name = tmp_path / "runs/tiny/round-1/samples"
    link(tmp_path / "store/a", name)
    link(tmp_path / "store/b", name)
    assert os.readlink(name) == "../../../store/b"
    (tmp_path / "elsewhere").symlink_to(tmp_path / "runs/tiny/round-1")
    link(tmp_path / "store/a", tmp_path / "elsewhere/samples")
    assert name.resolve() == tmp_path / "store/a"
    assert [path.name for path in name.parent.iterdir()] == ["samples"]


def test_a_dangling_link_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to("nowhere")
    link(tmp_path, tmp_path / "gone")
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(StoreError, match=r"mine: is not a link, so qrft did not make it. Move it away"):
        link(tmp_path, tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "precious"


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_atomic(path, "é")
    assert path.read_bytes() == "é".encode()
    write_atomic(path, b"\xff")
    assert path.read_bytes() == b"\xff" and [file.name for file in tmp_path.iterdir()] == ["summary.json"]


def test_write_atomic_through_a_link_spares_its_target(tmp_path: Path) -> None:
    (tmp_path / "artifact").write_text("old")
    (tmp_path / "name").symlink_to("artifact")
    write_atomic(tmp_path / "name", "new")
    assert (tmp_path / "artifact").read_text() == "old"


# ------------------------------------------------------------------------------------------------------------ full disk


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small", "size=64k") as folder:
        yield folder


def test_a_full_disk(small_disk: Path) -> None:
    write_atomic(small_disk / "summary.json", "old")
    message = (
        rf"{small_disk}: the disk is full; 0\.\d MiB free at {small_disk}\. Make room, then run the same command again"
    )
    with pytest.raises(StoreError, match=message):
        write_atomic(small_disk / "summary.json", b"x" * 100_000)
    assert [path.name for path in small_disk.iterdir()] == ["summary.json"]
    store = Store(small_disk)
    work = store.begin("sample", DIGEST)
    with pytest.raises(StoreError, match="the disk is full"), disk_errors(work):
        (work / "half").write_bytes(b"x" * 100_000)
    assert not store.has("sample", DIGEST)
    assert list(store.begin("sample", DIGEST).iterdir()) == [work / "partial"]


def test_exhausted_inodes_are_not_told_as_a_full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "few", "size=16m,nr_inodes=6") as folder:
        message = r"no more files fit on the disk, though it is not full: it holds 6, .* Remove files there, then run"
        with pytest.raises(StoreError, match=message):
            for number in range(10):
                write_atomic(folder / str(number), "x")


def test_a_file_over_the_limit(tmp_path: Path) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        with pytest.raises(
            StoreError, match=r"a file grew over the limit \(ulimit -f\); [\d,.]+ MiB free at /.* Make room"
        ):
            write_atomic(tmp_path / "a", b"x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EDQUOT, ""), "your disk quota is used up"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0"), "the disk is full"),
        (RuntimeError("basic_ios::clear: iostream error"), "the disk is full"),
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"), "the disk is full"),
        (PermissionError(errno.EACCES, "", "/a/b"), "^/a/b: Permission denied. Make it writable for this user"),
        (OSError(errno.EROFS, ""), "Read-only file system"),
        (OSError(errno.EIO, ""), "Input/output error. Work in another folder"),
    ],
)
def test_disk_errors(tmp_path: Path, error: Exception, message: str) -> None:
    with pytest.raises(StoreError, match=message), disk_errors(tmp_path / "not/yet/there"):
        raise error


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, ""), ValueError("x"), DataError("x"), KeyError("x")])
def test_other_errors_pass(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)), disk_errors(tmp_path):
        raise error


def test_a_store_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Not a directory"):
        Store(tmp_path / "file").begin("sample", DIGEST)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match=r"Permission denied\. Make it writable"):
        write_atomic(tmp_path / "a", "x")


def test_tidy_removes_what_a_kill_after_publishing_left_and_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finished = store.commit(store.begin("train", "abc"), GIVEN)
    begun = Store(tmp_path).begin("train", "def")
    leftovers = tmp_path / "tmp" / f"{finished.name}.lock", tmp_path / "tmp" / f"{finished.name}.partial"
    leftovers[0].touch()
    leftovers[1].mkdir()
    store.tidy()
    assert not any(path.exists() for path in leftovers)
    assert finished.exists() and begun.exists()


def test_a_link_in_tmp_is_refused_and_what_it_points_to_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    store = Store(tmp_path / "store")
    (store.root / "tmp").mkdir(parents=True)
    (store.root / "tmp" / f"sft-{DIGEST}").symlink_to(mine)
    with pytest.raises(StoreError, match="is a link, and qrft makes none there"):
        store.begin("sft", DIGEST)
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


def test_a_linked_lock_is_not_written_through(tmp_path: Path) -> None:
    mine = tmp_path / "thesis.txt"
    mine.write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(mine)
    with pytest.raises(StoreError, match="lock"), lock(tmp_path / "run"):
        pass
    assert mine.read_text() == "mine"
