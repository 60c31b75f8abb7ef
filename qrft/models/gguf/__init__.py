"""Base models and LoRA adapters as GGUF files, and the check that llama.cpp computes what transformers computes.

architecture   which settings are supported, their GGUF metadata, names and layouts
vocabulary     tokens and merges, so that people can chat with the export
adapter_config peft's settings: what can be exported
lora           peft folders: the matrices
base           export_base
bfloat16       rounding to it, which numpy lacks
quant          how many bits per weight
quantize       llama.cpp's own quantiser, in a process of its own
adapter        export_adapter
header         what a ready file says of itself, compared with the model's folder
parity         check_parity
dequantize     a Hugging Face folder made of a GGUF file
prepare        prepare_base, prepare_adapter: files made once, in a cache folder
"""
