"""Power loss: what the disk is sure to have at each rename that makes something visible.

strace writes down what a command does to files. Of a file, the disk is sure to have what was synced; of a folder, the
names that were there when it was synced. A journal may keep a rename and lose what was written before it, so whatever
is renamed into its place has to be on the disk already, file by file.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from helpers.commands import command_line, environment
from helpers.jsonl import write_jsonl
from helpers.torture import RECIPE, Told

from qrft.data.problems import registry

CALLS = (
    "openat,creat,write,pwrite64,writev,ftruncate,fallocate,copy_file_range,sendfile,mmap,fsync,fdatasync,"
    "rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat"
)
_ENDED = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += +(-?\d+|\?|0x[0-9a-f]+)(?:<([^>]*)>)?")
_BEGUN = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")


def calls(lines: Iterator[str]) -> Iterator[tuple[str, str, str | None]]:
    """Yield each successful call: its name, its arguments, and the path of the file that it opened."""
    begun: dict[str, str] = {}
    for line in lines:
        if found := _BEGUN.match(line):
            begun[found[1]] = found[2]
            continue
        if found := _RESUMED.match(line):
            line = f"{found[1]} {begun.pop(found[1], '')}{found[2]}"
        if (found := _ENDED.match(line)) and not found[3].startswith("-") and found[3] != "?":
            yield found[1], found[2], found[4]


@dataclass
class Disk:
    """What is not yet sure to be on the disk: contents of files, and names in folders."""

    root: str
    dirty: set[str] = field(default_factory=set)
    renamed: list[tuple[str, list[str]]] = field(default_factory=list)  # what got its name, and what of it was not sure
    moved: list[str] = field(default_factory=list)  # the names before
    num_syncs: int = 0

    def see(self, name: str, words: str, opened: str | None) -> None:
        if name in ("openat", "creat"):
            if opened and ("O_CREAT" in words or "O_TRUNC" in words or name == "creat"):
                self._write(opened)
                self._change_names(opened)
        elif name in ("fsync", "fdatasync"):
            self.num_syncs += 1
            self.dirty.discard(_descriptor(words))
        elif name == "mmap":
            if "PROT_WRITE" in words and "MAP_SHARED" in words:
                self._write(_descriptor(words))
        elif name.startswith("rename"):
            self._rename(*_paths(words)[:2])
        elif name.startswith("mkdir"):
            self._change_names(_paths(words)[0])
        elif name.startswith("unlink"):
            self.dirty.discard(_paths(words)[0])
        else:
            self._write(_descriptor(words))

    def is_within_work(self, target: str) -> bool:
        """Return whether a folder above got its name later: nobody reads what is in it before."""
        return any(target.startswith(f"{source}/") for source in self.moved)

    def _write(self, path: str) -> None:
        if path.startswith(self.root):
            self.dirty.add(path)

    def _change_names(self, path: str) -> None:
        self._write(str(Path(path).parent))

    def _rename(self, source: str, target: str) -> None:
        if not target.startswith(self.root):
            return
        if source.endswith("/partial"):  # put aside, until its artifact is there
            return
        inside = [path for path in self.dirty if path == source or path.startswith(f"{source}/")]
        self.renamed.append((target, sorted(inside)))
        self.moved.append(source)
        for path in inside:
            self.dirty.remove(path)
            self.dirty.add(target + path.removeprefix(source))
        self._change_names(target)


def _descriptor(words: str) -> str:
    found = re.search(r"\d+<([^>]*)>", words)
    return found[1] if found else ""


def _paths(words: str) -> list[str]:
    """Return the paths of a call; a relative one stands after the folder's descriptor."""
    folders = iter(re.findall(r"(?:AT_FDCWD|\d+)<([^>]*)>", words))
    texts = re.findall(r'"((?:[^"\\]|\\.)*)"', words)
    return [text if text.startswith("/") else f"{next(folders, '')}/{text}" for text in texts]


def traced(folder: Path, *words: object) -> Disk:
    """Run a command and return what it did to the disk below the folder."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trace = folder.parent / f"{folder.name}.trace"
    prefix = ["strace", "-f", "--seccomp-bpf", "-y", "-s", "0", "-e", f"trace={CALLS}", "-o", str(trace)]
    env = environment(XDG_CACHE_HOME=str(folder / "cache"), OMP_NUM_THREADS="1")
    done = subprocess.run([*prefix, *command_line(*words)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    disk = Disk(str(folder))
    with trace.open(errors="replace") as lines:
        for call in calls(lines):
            disk.see(*call)
    return disk


def kind(target: str) -> str:
    """Return what kind of thing got its name."""
    name = Path(target).name
    for pattern, words in {
        r"^(\w+)-[0-9a-f]{20}$": "an artifact",
        r"^checkpoint-\d+$": "a checkpoint",
        r"^shard-\d+\.parquet$": "a shard",
        r"\.gguf$": "a GGUF file",
    }.items():
        if re.search(pattern, name):
            return f"{words} of {name.rpartition('-')[0]}" if words == "an artifact" else words
    return "another file"


STAGES = ("problems", "curate", "train", "export", "sample", "grade", "evaluate", "report")


def renamed(folder: Path, commands: list[list[object]]) -> tuple[Counter[str], int]:
    """Run commands, all of whose renames must be of what is on the disk; return how many of each kind, and of syncs."""
    seen: Counter[str] = Counter()
    num_syncs = 0
    for words in commands:
        disk = traced(folder, *words)
        num_syncs += disk.num_syncs
        for target, unsure in disk.renamed:
            if not disk.is_within_work(target):
                assert not unsure, f"{target} got its name before {unsure} was on the disk"
            seen[kind(target)] += 1
    return seen, num_syncs


def test_what_grade_and_curate_write_is_on_the_disk(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    rows = registry.draw("tiny-math/train", 0, 4).to_pylist()
    write_jsonl(folder / "problems.jsonl", [{"question": row["question"], "answer": row["solution"]} for row in rows])
    write_jsonl(folder / "samples.jsonl", [{"id": i, "output": row["solution"]} for i, row in enumerate(rows)])
    judged = [folder / "samples.jsonl", "--problems", folder / "problems.jsonl", "-o"]
    seen, _ = renamed(folder, [["grade", *judged, folder / "g.parquet"], ["curate", *judged, folder / "t.jsonl"]])
    assert seen["another file"] >= 2


@pytest.mark.slow
@pytest.mark.torture
def test_what_is_renamed_into_its_place_is_on_the_disk(tmp_path: Path, told: Told) -> None:
    """Every kind of artifact, checkpoint, shard and cache, and what the single commands write."""
    folder = tmp_path / "disk"
    folder.mkdir()
    (folder / "r.yaml").write_text(RECIPE)
    problems = folder / "out/micro/problems/train/problems.parquet"
    samples, judged = folder / "samples", ["--problems", problems, "-o"]
    options = ["--set", "num_epochs=1", "--set", "quantization=none"]
    commands: list[list[object]] = [
        ["run", folder / "r.yaml", "-o", folder / "out"],
        ["sample", "tiny-base", "-k", 2, "--quant", "q8_0", "--max-new-tokens", 8, *judged, samples],
        ["grade", samples, *judged, folder / "graded.parquet"],
        ["curate", samples, *judged, folder / "training.jsonl"],
        ["train", "tiny-base", "--data", folder / "training.jsonl", "-o", folder / "adapter", *options],
    ]
    seen, num_syncs = renamed(folder, commands)
    assert {f"an artifact of {stage}" for stage in STAGES} | {"a checkpoint", "a shard", "a GGUF file"} <= set(seen)
    told(sum(seen.values()), f"renames, all of what was on the disk; {num_syncs} syncs; {dict(seen)}")


def test_a_rename_before_the_sync_would_be_seen() -> None:
    lines = [
        '7 openat(AT_FDCWD</w>, "/d/tmp/a/f", O_WRONLY|O_CREAT, 0666) = 3</d/tmp/a/f>',
        '7 write(3</d/tmp/a/f>, ""..., 10) = 10',
        "8 fsync(4</d/tmp/a> <unfinished ...>",
        '7 rename("/d/tmp/a", "/d/a") = 0',
        "8 <... fsync resumed>) = 0",
        "7 fsync(3</d/a/f>) = 0",
        '7 rename("/d/a", "/d/b") = 0',
        '7 rename("/d/b", "/d/c") = -1 ENOENT (No such file or directory)',
    ]
    disk = Disk("/d")
    for call in calls(iter(lines)):
        disk.see(*call)
    assert disk.renamed[0] == ("/d/a", ["/d/tmp/a", "/d/tmp/a/f"])
    assert [target for target, _ in disk.renamed] == ["/d/a", "/d/b"]
