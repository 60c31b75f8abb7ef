"""Write the card of what is exported: its base, data, recipe, figures, how to use it and how to make it again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from qrft.commands.proof import Proof
from qrft.commands.shipped import MODELFILE, Prompting, Target
from qrft.commands.trained import Trained
from qrft.data.disk import write_atomic
from qrft.models import prompts
from qrft.report.words import MODELS
from qrft.training import card

LIBRARIES = {"gguf": "gguf", "merged": "transformers", "adapter": "peft"}

ASK = """
turns = [{{"role": "user", "content": "{question}"}}]
inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
output = model.generate(**inputs, max_new_tokens={max_new_tokens}, do_sample=False, eos_token_id={ends})
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""


def write_card(
    model: Trained, wanted: Target, how: Prompting, proof: Proof, file: str | None, push: str | None, folder: Path
) -> None:
    """Write README.md into the folder. `file`: the GGUF file's name. `push`: the hub name that the folder gets."""
    parts = [
        _header(model, wanted),
        f"# {model.name}\n\n{_made_of(model, wanted)}",
        f"## The prompt\n\n{_prompt(model, how)}",
        f"## Use\n\n{_use(model, wanted, how, file, push or 'path/of/this/folder')}",
        *_figures(model.summary),
        f"## Proof\n\n{told(proof)}",
    ]
    if model.config:
        parts.append(f"## Training\n\n{_data(model)}\n\n{card.settings_table(model.config)}")
    parts.append(f"## Make it again\n\n{_again(model)}")
    write_atomic(folder / card.FILE, "\n\n".join(parts) + "\n")


def _header(model: Trained, wanted: Target) -> str:
    return (
        f"---\nbase_model: {model.base}\nlibrary_name: {LIBRARIES[wanted.kind]}\npipeline_tag: text-generation\n"
        "tags: [qrft, rejection-sampling]\n---"
    )


def _made_of(model: Trained, wanted: Target) -> str:
    what = {"gguf": f"GGUF file ({wanted.quant})", "merged": "merged weights", "adapter": "LoRA adapter"}[wanted.kind]
    if model.phase == "base":
        return f"The base model `{model.base}` as a {what}, with the prompt that it was asked with."
    how = {"rft": "rejection-sampling fine-tuning", "sft": "supervised fine-tuning"}.get(model.phase, "fine-tuning")
    return f"`{model.base}` after {how} with qrft, as {what}. The licence of the base model applies."


def _prompt(model: Trained, how: Prompting) -> str:
    shown = prompts.prompt_text("{question}", model.wording, (), how.tokenizer)
    end = how.tokenizer.decode([how.asked.end])
    return (
        f"It was trained with this prompt, and an answer ends with `{end}`. The chat template in these files writes a "
        f"single user's turn exactly so:\n\n```\n{shown}\n```"
    )


def _use(model: Trained, wanted: Target, how: Prompting, file: str | None, place: str) -> str:
    if wanted.kind == "gguf":
        return (
            f"```\nllama-server -m {file} --jinja\nollama create {model.name} -f {MODELFILE}\n```\n\nLM Studio opens "
            "the file as it is."
        )
    base = card.hub_name(model.base_dir) or f"path/of/{model.base}"
    load = (card.USE_ADAPTER if wanted.kind == "adapter" else card.USE_WHOLE).format(base=base, folder=place)
    load = load.replace(f'AutoTokenizer.from_pretrained("{base}")', f'AutoTokenizer.from_pretrained("{place}")')
    ask = ASK.format(question=prompts.ASKED, max_new_tokens=model.max_new_tokens, ends=how.ends)
    return f"```python\n{load}\n{ask}\n```"


def _figures(summary: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        f"| {name} | {row['accuracy']:.1%} | {row['low']:.1%} to {row['high']:.1%} |"
        for key, name in MODELS.items()
        if (row := summary.get(key))
    ]
    if rows:
        table = "\n".join(["| model | accuracy | 95% interval |", "|---|---|---|", *rows])
        yield f"## Figures\n\nGreedy answers to {summary['num_test']:,} test problems.\n\n{table}"


def told(proof: Proof) -> str:
    """Say how the answers compare, for people."""
    lines = [same_answers(proof)]
    if proof.num_same < proof.num_problems:
        lines.append(f"{proof.top1_agreement:.1%} of {proof.num_positions:,} tokens are its likeliest ones too.")
    if proof.num_texts:
        alike = f"{proof.num_same_texts:,} of {proof.num_texts:,}"
        lines.append(f"{alike} lines have the trained token ids in the file's own tokenizer.")
    return " ".join(lines)


def same_answers(proof: Proof) -> str:
    """Say it in one sentence: 20 of 20 the same."""
    ties = f", {proof.num_ties} part at a tie of two tokens" if proof.num_ties else ""
    return (
        f"Loaded again and asked by its own template: {proof.num_same} of {proof.num_problems} greedy answers are the "
        f"same as the trained model's{ties}."
    )


def _data(model: Trained) -> str:
    facts, data = model.facts, model.config.get("data", {})
    named = f"`{data['name']}`: " if isinstance(data, dict) and "name" in data else ""
    return (
        f"{named}{facts['num_examples']:,} worked solutions, {facts['num_steps']:,} steps, {facts['num_tokens']:,} "
        "tokens; the loss counts the completions only."
    )


def _again(model: Trained) -> str:
    if model.recipe is None:
        given = (f"{key}={json.dumps(value)}" for key, value in _changed(model.config).items())
        keys = " ".join(f"--set {quote(text)}" for text in given)
        name = model.config.get("data", {}).get("name", "DATA")
        return f"```\npip install qrft\nqrft train {model.base} --data {name} -o adapter {keys}\n```"
    return f"`pip install qrft`, then `qrft run recipe.yaml` with this recipe:\n\n```yaml\n{model.recipe.strip()}\n```"


def _changed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a training that are not the defaults."""
    from qrft.config.training import Training

    fields = Training.model_fields
    known = {key: value for key, value in config.items() if key in fields}
    usual = Training().model_dump(mode="json")
    return {key: value for key, value in known.items() if usual.get(key) != value}
