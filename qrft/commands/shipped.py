"""Write what other programs open: a GGUF file with its Modelfile, a folder for transformers, an adapter's folder. Each
has the trained prompt inside."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from qrft.commands.trained import Trained
from qrft.data.disk import write_atomic
from qrft.errors import StoreError, UsageError
from qrft.models import prompts
from qrft.models.find import TOKENIZERS
from qrft.models.gguf.base import export_base
from qrft.models.gguf.modelfile import modelfile
from qrft.models.gguf.quant import Quant
from qrft.models.gguf.vocabulary import Asked
from qrft.models.json_file import read_json
from qrft.models.loading import load_adapter, load_model
from qrft.models.trained_template import trained_template
from qrft.models.weights import open_weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Kind = Literal["gguf", "merged", "adapter"]
CHOICES = "gguf:q4_k_m, gguf:q8_0, gguf:f16, merged, adapter or ollama"
OF_A_TOKENIZER = (*TOKENIZERS, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
# Bytes of a number in a file, with the scales of its blocks.
SIZES: dict[Quant, float] = {"f32": 4, "f16": 2, "bf16": 2, "q8_0": 1.07, "q4_k_m": 0.65}
SLACK = 64 << 20  # vocabularies, cards
MODELFILE = "Modelfile"


@dataclass(frozen=True)
class Target:
    """What to make: `quant` is that of a GGUF file."""

    kind: Kind
    quant: Quant | None = None

    def file_of(self, name: str) -> str:
        return f"{name}-{self.quant}.gguf"


def target(text: str) -> Target:
    """Read gguf:q4_k_m, merged, adapter, ollama, ollama:q8_0. Raises UsageError."""
    kind, colon, quant = text.partition(":")
    if text in ("merged", "adapter"):
        return Target(cast(Kind, text))
    if kind == "ollama" and not colon:
        quant = "q4_k_m"  # as Ollama's own models have
    if kind in ("gguf", "ollama") and quant in get_args(Quant):
        return Target("gguf", cast(Quant, quant))
    raise UsageError(f"--to {text}: unknown. Give {CHOICES}; a GGUF's format is one of {', '.join(get_args(Quant))}.")


@dataclass(frozen=True)
class Prompting:
    """How a model is asked, for every file that says so."""

    tokenizer: PreTrainedTokenizerBase
    template: str
    ends: list[int]
    asked: Asked


def prompting(model: Trained) -> Prompting:
    """Return how the model was asked in its training. Raises ModelError where no template can say it."""
    tokenizer = prompts.load_tokenizer(model.folder)
    template = trained_template(tokenizer, model.wording)
    end = prompts.end_id(tokenizer, model.wording)
    asked = Asked(template, prompts.puts_bos(tokenizer), tokenizer.bos_token_id, int(tokenizer.eos_token_id), end)
    return Prompting(tokenizer, template, prompts.end_ids(tokenizer, model.wording), asked)


def check_room(model: Trained, wanted: Target, output: Path, needs_base: bool, cache: Path) -> None:
    """Raise StoreError where the files will not fit on the disk. needs_base: the model is made a GGUF file in the
    cache, to be compared with."""
    shapes = [ref.shape for ref in open_weights(model.folder).values()]
    num_parameters = sum(map(prod, shapes))
    if wanted.quant is not None:
        wide = SIZES["f16"] if wanted.quant in ("q8_0", "q4_k_m") else 0.0
        needed = {output: num_parameters * (SIZES[wanted.quant] + wide)}
    elif wanted.kind == "merged":
        needed = {output: sum(file.stat().st_size for file in model.folder.glob("*.safetensors"))}
    else:
        needed = {output: sum((_source(model) / name).stat().st_size for name in ADAPTER)}
    if needs_base:
        needed[cache] = num_parameters * SIZES["f16"]
    by_disk: dict[int, tuple[Path, float]] = {}
    for place, size in needed.items():
        there = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
        disk = there.stat().st_dev
        by_disk[disk] = by_disk.get(disk, (there, 0.0))[0], by_disk.get(disk, (there, 0.0))[1] + size
    for there, size in by_disk.values():
        if (free := shutil.disk_usage(there).free) < size + SLACK:
            raise StoreError(
                f"{there}: has {free / 2**30:.1f} GiB free, and this export needs {(size + SLACK) / 2**30:.1f} GiB "
                "there while it works. Make room, name another folder with -o, or choose fewer bits, such as "
                "--to gguf:q4_k_m."
            )


def _source(model: Trained) -> Path:
    assert model.adapter is not None
    return model.adapter


def write_gguf(model: Trained, wanted: Target, how: Prompting, folder: Path, num_threads: int | None) -> Path:
    """Write the GGUF file, with the adapter merged, and its Modelfile; return the file."""
    assert wanted.quant is not None
    file = folder / wanted.file_of(model.name)
    export_base(model.folder, file, wanted.quant, model.adapter, asked=how.asked, n_threads=num_threads)
    write_atomic(folder / MODELFILE, modelfile(file.name, how.tokenizer, how.template, how.ends))
    return file


def write_merged(model: Trained, how: Prompting, folder: Path) -> None:
    """Write the folder of a whole model, in the number format of its base."""
    if model.adapter is None:
        for file in (*model.folder.glob("*.safetensors"), *model.folder.glob("*.safetensors.index.json")):
            shutil.copyfile(file, folder / file.name)
        shutil.copyfile(model.folder / "config.json", folder / "config.json")
    else:
        merged = load_adapter(load_model(model.base_dir, dtype="auto"), model.adapter).merge_and_unload()
        merged.save_pretrained(folder)
    _write_ends(model.folder, how, folder)
    write_tokenizer(model.folder, how, folder)


def _write_ends(source: Path, how: Prompting, folder: Path) -> None:
    """Say where an answer ends, in the file in which programs look for it."""
    path = source / "generation_config.json"
    known = read_json(path) if path.is_file() else {}
    ends = how.ends if len(how.ends) > 1 else how.ends[0]
    write_atomic(folder / path.name, json.dumps({**known, "eos_token_id": ends}, indent=2) + "\n")


def write_adapter(model: Trained, how: Prompting, folder: Path) -> None:
    """Write peft's folder with the tokenizer, whose template is the adapter's own."""
    settings, weights = ADAPTER
    config = {**read_json(_source(model) / settings), "base_model_name_or_path": model.base}
    write_atomic(folder / settings, json.dumps(config, indent=2) + "\n")
    shutil.copyfile(_source(model) / weights, folder / weights)
    write_tokenizer(model.folder, how, folder)


def write_tokenizer(source: Path, how: Prompting, folder: Path) -> None:
    """Copy the tokenizer, with the trained template in both places where programs look for one."""
    for name in OF_A_TOKENIZER:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    path = folder / "tokenizer_config.json"
    config = read_json(path) if path.is_file() else {}
    config.pop("name_or_path", None)  # a place on the machine of whoever saved it
    write_atomic(path, json.dumps({**config, "chat_template": how.template}, indent=2, ensure_ascii=False) + "\n")
    write_atomic(folder / "chat_template.jinja", how.template)
