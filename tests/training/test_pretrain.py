"""`qrft pretrain`: a family of bases, gone on with after a stop, each with its loss on held-out text."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from helpers.commands import fails
from helpers.paths import RECIPES

from qrft.cli.main import main
from qrft.config.load import load
from qrft.config.pretrain import PretrainRecipe
from qrft.data.problems import tiny_corpus
from qrft.models.find import fingerprint
from qrft.training import pretrain

FAMILY = """
name: trial
vocab_size: 400
context_length: 64
batch_size: 8
hidden_size: 32
num_layers: 1
num_heads: 2
intermediate_size: 48
family:
  long: {num_tokens: 8192}
  wide: {num_tokens: 2048, hidden_size: 48}
"""


@pytest.fixture(autouse=True)
def _short_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_corpus, "NUM_HELD_OUT", 40)
    monkeypatch.setattr(pretrain, "TOKENIZER_DOCUMENTS", 800)
    monkeypatch.setattr(pretrain, "CHECKPOINT_SECONDS", 0.0)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "family.yaml"
    path.write_text(FAMILY)
    return path


def make(recipe: Path, out: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["pretrain", str(recipe), "--out", str(out), *words])


def test_a_family_is_gone_on_with_to_the_same_models(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make(recipe, tmp_path / "whole").exit_code == 0
    save = pretrain._Checkpoints.save_when_due

    def stop_in_the_middle(self: pretrain._Checkpoints, losses: list[float]) -> None:
        save(self, losses)
        if len(losses) == 10:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pretrain._Checkpoints, "save_when_due", stop_in_the_middle)
        assert make(recipe, tmp_path / "stopped").exit_code == 130
    assert not (tmp_path / "stopped" / "long").exists()

    started = []
    monkeypatch.setattr(pretrain, "learning_rate_at", lambda *at: started.append(at) or LEARNING_RATE_AT(*at))
    done = make(recipe, tmp_path / "stopped")
    assert done.exit_code == 0, done.output
    assert len(started) == (16 - 10) + 4  # steps of 512 tokens
    for name in ("long", "wide"):
        assert fingerprint(tmp_path / "stopped" / name) == fingerprint(tmp_path / "whole" / name)
    assert not list(tmp_path.rglob("*.partial")) and not list(tmp_path.rglob("checkpoint*"))

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "whole").rglob("*.safetensors")}
    assert make(recipe, tmp_path / "whole").exit_code == 0  # nothing to do
    assert {path: path.stat().st_mtime_ns for path in before} == before

    for name in ("long", "wide"):
        card = json.loads((tmp_path / "whole" / name / "pretraining.json").read_text())
        words = ["--text", str(tmp_path / "whole" / "held-out.jsonl"), "--context", "64", "--json"]
        measured = json.loads(CliRunner().invoke(main, ["loss", str(tmp_path / "whole" / name), *words]).stdout)
        for figure in ("nats_per_token", "bits_per_byte", "num_tokens", "num_texts"):
            assert card["held_out"][figure] == measured[figure]
        assert card["recipe"]["name"] == name and card["flops"] > 0

    other = make(recipe, tmp_path / "whole", "--set", "family.wide.num_tokens=4096")
    assert other.exit_code == 1
    assert "wide/pretraining.json: num_tokens is 2048, but the recipe says 4096. Remove" in other.stderr


LEARNING_RATE_AT = pretrain.learning_rate_at


def test_a_folder_of_something_else_stays(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "long").mkdir(parents=True)
    done = make(recipe, tmp_path / "out")
    assert done.exit_code == 1 and "is not the card of a base, so qrft did not make" in done.stderr


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("family.wide.num_heads=5", "family: found 5 with hidden_size 48. Allowed: hidden_size / num_heads whole"),
        ("family.wide.hidden_sze=64", "family.wide.hidden_sze: unknown key. Did you mean hidden_size?"),
        ("family.a/b={}", "family: found the name 'a/b'. Allowed: up to 40 letters"),
        ("family.wide=3", "family.wide: found 3. Allowed: a section with the keys seed, hidden_size"),
        ("family=3", "family: found 3. Allowed: a section with keys of your own"),
    ],
)
def test_what_a_family_can_not_be(recipe: Path, tmp_path: Path, override: str, words: str) -> None:
    done = make(recipe, tmp_path / "out", "--set", override)
    assert done.exit_code == 2 and words in done.stderr
    assert not (tmp_path / "out").exists()


def test_in_the_shipped_family_size_and_training_cross() -> None:
    recipe = load(RECIPES / "tiny-family.yaml", [], PretrainRecipe)
    members = recipe.members()
    sizes = {(member.hidden_size, member.num_tokens) for member in members.values()}
    assert len(sizes) == len(members) == 9
    assert len({size for size, _ in sizes}) == len({tokens for _, tokens in sizes}) == 3
    assert len({(member.vocab_size, member.seed) for member in members.values()}) == 1  # one tokenizer


def test_held_out_text_is_in_no_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    held_out = set(tiny_corpus.held_out())
    assert len(held_out) == 2000
    for seed in (0, 1):
        assert not held_out & set(itertools.islice(tiny_corpus.documents(seed), 20_000))


def test_a_work_folder_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "base.partial").mkdir()
    (tmp_path / "base.partial" / "config.json").write_text("mine")
    message = fails(1, "pretrain", str(RECIPES / "tiny-base.yaml"), "--out", str(tmp_path / "base"))
    assert "base.partial: is needed as a work folder, but qrft pretrain did not make it." in message
    assert (tmp_path / "base.partial" / "config.json").read_text() == "mine"
