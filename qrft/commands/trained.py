"""The models that `qrft run` and `qrft train` leave behind, each with what it is sampled from and how it is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from qrft.config.paths import for_people, local_path, without_folders
from qrft.config.recipe import Recipe
from qrft.config.variants import split_models
from qrft.config.yaml_lines import Reading, read, to_yaml
from qrft.data.problems.registry import rules_for
from qrft.errors import ModelError, StoreError, UsageError
from qrft.grading.rules import DEFAULT_RULES, Rules
from qrft.models.find import find_model, fingerprint
from qrft.models.gguf.prepare import base_file
from qrft.models.names import KNOWN
from qrft.models.wording import Wording
from qrft.pipeline.store import manifest, verify
from qrft.training.card import hub_name

RECIPE, CARD = "recipe.yaml", "train.json"  # by which a run's folder is known, and one of `qrft train`
PHASES = ("rft", "sft", "control", "base")  # in the order in which one is taken where none is named
EXPECTED = "Expected the folder of a run, such as runs/tiny, or one that `qrft train` wrote, such as adapter."
MAX_NEW_TOKENS = 512  # of an answer, where no recipe says it


@dataclass(frozen=True)
class Trained:
    """A model in a folder, and how it is asked.

    `name`: for people and files. `base`: the base model's name. `base_dir`: its folder. `adapter`: peft's folder.
    `tuned`: the folder of a model of which every weight was trained. `gguf`, `adapter_gguf`: what the run samples it
    from. `config`, `facts`: of its training. `problems`: the tables (schema.PROBLEMS) of the run, the test problems
    first. `recipe`, `summary`, `test_set`, `rules`: of its run.
    """

    name: str
    phase: str
    base: str
    base_dir: Path
    wording: Wording
    adapter: Path | None = None
    tuned: Path | None = None
    gguf: Path | None = None
    adapter_gguf: Path | None = None
    max_new_tokens: int = MAX_NEW_TOKENS
    rules: Rules = DEFAULT_RULES
    problems: tuple[Path, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    recipe: str | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    test_set: str | None = None

    @property
    def folder(self) -> Path:
        """The Hugging Face folder that has the tokenizer, and the weights but for an adapter's."""
        return self.tuned or self.base_dir


def find_trained(folder: Path, phases: tuple[str, ...] = (), base: str | None = None) -> list[Trained]:
    """Return the models of these phases of a run, or the one that `qrft train` wrote; without phases, the newest.

    `base`: where the base model is now, None for where the run or the training found it. Raises UsageError for a folder
    that holds no such models, ModelError for a base that is not there or another one, DamagedError.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: {_no_folder(folder)}{_runs_near(folder.parent)}")
    if (folder / CARD).is_file():
        return _of_training(folder, phases, base)
    root = next((place for place in (folder, *folder.parents[:2]) if (place / RECIPE).is_file()), None)
    if root is None or not (root == folder or _phases(folder)):
        raise UsageError(f"{folder}: is no run. {EXPECTED}{_hint(folder)}{_runs_near(folder)}")
    return _of_run(folder, root, phases, base)


def _no_folder(folder: Path) -> str:
    if folder.suffix in (".yaml", ".yml") and folder.is_file():
        return "is a recipe. Run it with `qrft run`, then name the folder that this makes, such as runs/NAME."
    return f"{'is a file' if folder.exists() else 'there is no such folder'}. {EXPECTED}"


def _hint(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return (
            f" It holds an adapter, but no {CARD}, which says what the adapter was trained on: name the run's folder."
        )
    return ""


def _runs_near(folder: Path) -> str:
    """Name the runs, and the folders of `qrft train`, that lie within a folder."""
    places = (f"{depth}/{phase}" for depth in ("*", "*/*", "*/*/*") for phase in ("sft", "rft"))
    found = sorted({str(place.parent) for pattern in (*places, f"*/{CARD}") for place in folder.glob(pattern)})
    if not found:
        return ""
    return f" There {'are' if len(found) > 1 else 'is'} {', '.join(found[:4])}{', ...' * (len(found) > 4)}."


# ----------------------------------------------------------------------------------------------------------- a run ----


def _phases(folder: Path) -> list[str]:
    """Return the phases whose models are finished, those of PHASES first."""
    trained = {place.parent.name for place in folder.glob("*/train") if place.exists()} - {"problems"}
    there = {*trained, *(["base"] if (folder / "problems").exists() or (folder / "base").exists() or trained else [])}
    return [*(phase for phase in PHASES if phase in there), *sorted(there - {*PHASES})]


def _of_run(folder: Path, root: Path, phases: tuple[str, ...], base: str | None) -> list[Trained]:
    recipe = _own_recipe(folder, root)
    there = _phases(folder)
    wanted = phases or (("rft",) if recipe.rounds else ("sft",))
    for phase in wanted:
        if phase not in there:
            raise UsageError(_lacks(folder, phase, there, is_asked=bool(phases)))
    base_dir = _base_dir(str(recipe.base_model), base, _digest(folder, there))
    return [_of_phase(folder, root, phase, recipe, base_dir) for phase in wanted]


def _lacks(folder: Path, phase: str, there: list[str], *, is_asked: bool) -> str:
    if inner := _runs_near(folder):
        return f"{folder}: holds several runs. Name one of them.{inner}"
    finished = f"Its finished models: {', '.join(there)}." if there else "None of its models is finished."
    way = "Run its recipe to the end with `qrft run`"
    way += ", or name another one with --model." if set(there) - {"base"} else "."
    return f"{folder}: has no model {phase}{'' if is_asked else ' yet'}. {finished} {way}"


def _own_recipe(folder: Path, root: Path) -> Recipe:
    """Return the recipe of one model: a folder below that of the recipe is that of one of its models."""
    path = root / RECIPE
    reading = Reading(str(path))
    try:
        recipe = Recipe.model_validate(read(path.read_text(encoding="utf-8"), reading, "name"))
    except (OSError, ValueError, ValidationError) as error:
        fault = str(error).splitlines()[0]
        raise StoreError(f"{path}: can't be read ({fault}). Run the recipe again with this version of qrft.") from None
    models = split_models(recipe)
    own = models.get("" if folder == root else folder.name)
    if own is None:
        named = ", ".join(str(root / name) for name in models)
        raise UsageError(f"{folder}: is a run of several models. Name the folder of one of them: {named}.")
    return own


def _digest(folder: Path, there: list[str]) -> str | None:
    """Return the fingerprint of the base model that the run was made with."""
    for phase in there:
        for kind in ("train", "gguf"):
            if (folder / phase / kind).exists():
                inputs = manifest((folder / phase / kind).resolve())["inputs"]
                return str(inputs["model"]).rpartition(" ")[2] if "model" in inputs else None
    return None


def _base_dir(name: str, given: str | None, digest: str | None) -> Path:
    try:
        folder = find_model(given or name)
    except ModelError as error:
        raise error if given else ModelError(f"{error} Where it has moved, say so with --base.") from error
    if digest is not None and fingerprint(folder) != digest:
        raise ModelError(
            f"{folder}: is not the base model of this training: its files differ from those that were trained on. "
            "Name the right one with --base."
        )
    return folder


def _of_phase(folder: Path, root: Path, phase: str, recipe: Recipe, base_dir: Path) -> Trained:
    config: Mapping[str, Any] = {}
    facts: Mapping[str, Any] = {}
    adapter = tuned = None
    if phase != "base":
        artifact = (folder / phase / "train").resolve()
        values = verify(artifact)
        config, facts = values["config"], values["report"]
        is_adapter = (artifact / "adapter").is_dir()
        adapter, tuned = (artifact / "adapter", None) if is_adapter else (None, artifact / "model")
    gguf, adapter_gguf = _files(folder, phase, recipe)
    return Trained(
        name=f"{folder.resolve().name}-{phase}",
        phase=phase,
        base=hub_name(base_dir) or people_name(str(recipe.base_model)),
        base_dir=base_dir,
        wording=recipe.wording,
        adapter=adapter,
        tuned=tuned,
        gguf=gguf,
        adapter_gguf=adapter_gguf,
        max_new_tokens=recipe.evaluate.max_new_tokens,
        rules=rules_for(recipe.problems.test, recipe.grade),
        problems=tuple(
            place for split in ("test", "train") if (place := root / "problems" / split / "problems.parquet").exists()
        ),
        config=config,
        facts=facts,
        recipe=to_yaml(without_folders(recipe.model_dump(mode="json", exclude_defaults=True))),
        summary=_summary(folder),
        test_set=str(recipe.problems.test),
    )


def _files(folder: Path, phase: str, recipe: Recipe) -> tuple[Path | None, Path | None]:
    """Return the GGUF files that the run samples a model from: a base, and an adapter where it is not merged."""
    own = folder / phase / "gguf"
    for place in (own, folder / "base" / "gguf"):
        if place.exists():
            verify(place.resolve())
    if (own / "base.gguf").exists():
        return own.resolve() / "base.gguf", None
    base = local_path(recipe.gguf.file) if recipe.gguf.file else folder / "base" / "gguf" / "base.gguf"
    if not base.exists() or (phase != "base" and not (own / "adapter.gguf").exists()):
        return None, None
    return base_file(base.resolve()), None if phase == "base" else own.resolve() / "adapter.gguf"


def _summary(folder: Path) -> Mapping[str, Any]:
    path = folder / "summary.json"
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def people_name(base: str) -> str:
    """Return what to call a base model outside this machine."""
    return for_people([base])[base]


# ------------------------------------------------------------------------------------------------- of `qrft train` ----


def _of_training(folder: Path, phases: tuple[str, ...], base: str | None) -> list[Trained]:
    if others := set(phases) - {"tuned", "base"}:
        raise UsageError(
            f"{folder}: was written by `qrft train`, so it has no model {min(others)}. Its models: tuned, base."
        )
    try:
        card = json.loads((folder / CARD).read_bytes())
        config, facts = dict(card["settings"]), dict(card["facts"])
        name, digest = config["base"]["name"], config["base"]["digest"]
        wording = Wording(**{key: config[key] for key in Wording.model_fields if key in config})
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StoreError(f"{folder / CARD}: can't be read ({error!r:.200}). Train again into another folder.") from None
    if base is None and name not in KNOWN and not local_path(name).exists() and "/" not in name:
        raise UsageError(f"{folder}: was trained on {name}, a folder that is not here. Say where it is with --base.")
    base_dir = _base_dir(name, base, digest)
    is_adapter = (folder / "adapter_config.json").is_file()
    tuned = Trained(
        name=folder.resolve().name,
        phase="tuned",
        base=hub_name(base_dir) or name,
        base_dir=base_dir,
        wording=wording,
        adapter=folder if is_adapter else None,
        tuned=None if is_adapter else folder,
        config=config,
        facts=facts,
    )
    plain = Trained(f"{tuned.name}-base", "base", tuned.base, base_dir, wording)
    return [plain if phase == "base" else tuned for phase in phases or ("tuned",)]
