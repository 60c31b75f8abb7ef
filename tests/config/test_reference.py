"""docs/recipe.md is what the models say."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from qrft.cli.main import main
from qrft.config import reference
from qrft.config.pretrain import PretrainRecipe
from qrft.config.recipe import KEYS, Recipe

PAGE = Path(__file__).parents[2] / "docs" / "recipe.md"


def test_the_page_is_what_the_models_say() -> None:
    text = reference.markdown()
    assert PAGE.read_text(encoding="utf-8") == text, f"docs/recipe.md is out of date. Write it: {reference.COMMAND}"
    done = CliRunner().invoke(main, ["schema", "--markdown"])
    assert (done.exit_code, done.output) == (0, text)


def test_every_key_has_a_row() -> None:
    """Those of sections that override keys of train are told there."""
    rows = PAGE.read_text(encoding="utf-8").splitlines()
    told = {row.split("|")[1].split("]")[0].strip(" `[") for row in rows if row.startswith("| ")}
    sections = {"sample.until", *(name for name in KEYS if name.startswith(("sft.", "rft.")))}
    assert {*KEYS} - told == sections & {*KEYS}
    assert {*PretrainRecipe.model_fields} <= told
    assert {f"models.<name>.{key}" for key in ("base_model", "gguf_file", "train")} <= told


def test_a_row_says_what_is_allowed_the_default_and_the_meaning() -> None:
    lines = reference.markdown().splitlines()
    for line in (
        "| `name` | text of the form ^[A-Za-z0-9_][A-Za-z0-9._-]\\*$, at most 100 characters | required | "
        "The name of the run and of its folder, runs/&lt;name>. |",
        "| [`problems`](#problems) | a section | required | The problems to train on and to test on. |",
        "| `rft` | the keys of [train](#train), and models |  | Keys of train that differ for RFT. |",
        "| `sample.top_p` | a number > 0 and <= 1 | `1.0` | Keep only the most likely tokens whose "
        "probabilities together reach this; 1 turns it off. |",
        "| `sample.until.correct` | a whole number >= 1, or null | `null` | Stop sampling a problem when it has "
        "this many correct samples. If not set, there is no such goal. |",
        "| `evaluate.few_shot` | a list of whole numbers >= 0, at least one | `[0]` | How many worked examples to "
        "show the base model. If there are several numbers, it is measured with each. |",
        "| `sample.chat` | true or false | `false` | Send each prompt as a chat message, so that the server "
        "applies its chat template. Only with sampler openai. |",
    ):
        assert line in lines
    assert all(field.description for field in Recipe.model_fields.values())
