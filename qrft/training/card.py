"""Write the model card: README.md in the folder of what was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qrft.config.training import Training

FILE = "README.md"
SETTINGS = (
    "adapter", "quantization", "lora_r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "lora_init",
    "learning_rate", "lr_scheduler", "warmup_ratio", "weight_decay", "neftune_noise_alpha", "num_epochs",
    "micro_batch_size", "gradient_accumulation_steps", "sequence_len", "too_long", "precision", "optimizer",
    "prompt", "seed",
)  # fmt: skip

USE_ADAPTER = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "{folder}")
tokenizer = AutoTokenizer.from_pretrained("{base}")"""

USE_WHOLE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")"""


def hub_name(model_dir: Path) -> str | None:
    """Return org/name of a model in the hub's cache, whose folder is models--org--name/snapshots/<revision>."""
    folder = model_dir.parent.parent.name
    if model_dir.parent.name != "snapshots" or not folder.startswith("models--"):
        return None
    return folder.removeprefix("models--").replace("--", "/")


def write(out: Path, model_dir: Path, settings: Training, facts: Mapping[str, Any]) -> None:
    """Write what the model was made from and how to use it; equal trainings write equal cards."""
    hub = hub_name(model_dir)
    base = hub or model_dir.name
    is_adapter = settings.adapter != "none"
    place = hub or f"path/of/{base}"  # the folder itself would tell of this machine and its user
    use = (USE_ADAPTER if is_adapter else USE_WHOLE).format(base=place, folder="path/of/this/folder")
    table = settings_table(settings.model_dump(mode="json"))
    header = f"---\nbase_model: {base}\nlibrary_name: {'peft' if is_adapter else 'transformers'}\ntags: [qrft]\n---\n"
    text = f"""{header}
# {base}, fine-tuned with qrft

{"A LoRA adapter for" if is_adapter else "All weights of"} `{base}`, trained on {facts["num_examples"]:,} worked \
solutions in {facts["num_steps"]:,} steps over {facts["num_tokens"]:,} tokens. The loss counts the completions only; \
its mean over the last steps was {facts["final_loss"]:.4f} nats per token.

```python
{use}
```

{table}
"""
    (out / FILE).write_text(text, encoding="utf-8")


def settings_table(values: Mapping[str, Any]) -> str:
    """Return the settings of a training as a table, those that matter to it."""
    is_adapter = values.get("adapter") != "none"
    rows = [
        f"| `{key}` | {json.dumps(values[key])} |" for key in SETTINGS if key in values and _matters(key, is_adapter)
    ]
    return "\n".join(["| setting | value |", "|---|---|", *rows])


def _matters(key: str, is_adapter: bool) -> bool:
    return is_adapter or not (key.startswith("lora") or key in ("target_modules", "use_rslora"))
