"""Do llama.cpp and transformers agree on a run's RFT model: logits, and greedy texts of 200 test problems?

    python bench/parity.py [--run runs/tiny] [--num-prompts 200] [--out docs/results]

Both in float32 with the adapter on, unquantised base. Writes parity.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import machine
import pyarrow.parquet as pq

from qrft.cli.actions import quiet_libraries
from qrft.config.load import load
from qrft.models import prompts
from qrft.models.find import find_model
from qrft.models.gguf.parity import check_parity
from qrft.sampling.api import Request, SamplingParams
from qrft.sampling.backends.llama_cpp.process import LlamaProcess


def transformers_texts(model: Path, adapter: Path, ids: list[list[int]], max_new_tokens: int) -> list[list[int]]:
    """Greedy token ids, one prompt at a time, so that no padding is involved."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    network: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), adapter)
    network.eval()
    texts = []
    for prompt in ids:
        with torch.no_grad():
            out = network.generate(input_ids=torch.tensor([prompt]), max_new_tokens=max_new_tokens, do_sample=False)
        texts.append(out[0, len(prompt) :].tolist())
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/tiny"))
    parser.add_argument("--num-prompts", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    quiet_libraries()
    recipe = load(args.run / "recipe.yaml")
    model = find_model(recipe.base_model)
    tokenizer = prompts.load_tokenizer(model)
    questions = pq.read_table(args.run / "problems/test/problems.parquet")["question"][: args.num_prompts].to_pylist()
    ids = [prompts.prompt_ids(tokenizer, question, recipe.wording) for question in questions]
    base, gguf = args.run / "base/gguf/base.gguf", args.run / "rft/gguf/adapter.gguf"
    adapter, longest = args.run / "rft/train/adapter", recipe.evaluate.max_new_tokens

    result: dict[str, Any] = dict(check_parity(model, base, adapter, gguf, ids))
    with LlamaProcess(base, gguf) as process:
        requests = [Request(str(i), prompt) for i, prompt in enumerate(ids)]
        params = SamplingParams(temperature=0.0, max_new_tokens=longest)
        found = {int(c.problem_id): c.token_ids for c in process.generate(requests, params, [tokenizer.eos_token_id])}
    expected = transformers_texts(model, adapter, ids, longest)
    same = sum(found[i] == tokens for i, tokens in enumerate(expected))
    result |= {"num_same_greedy_texts": same, "num_greedy_texts": len(ids), "machine": machine.describe()}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "parity.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(
        f"largest logit difference {result['max_logit_difference']:.2e}; "
        f"same greedy text on {same} of {len(ids)} prompts"
    )


if __name__ == "__main__":
    main()
