"""Base models and LoRA adapters as GGUF files, and the check that llama.cpp computes what transformers computes.

weights        safetensors folders, read tensor by tensor without torch
architecture   which configurations are supported, their GGUF metadata, names and layouts
vocabulary     tokens and merges, so that people can chat with the export
lora           peft folders: what can be exported, and the matrices
base           export_base
quant          how many bits per weight
quantize       llama.cpp's own quantiser, in a process of its own
adapter        export_adapter
header         what a ready file says of itself, held against the model's folder
parity         check_parity
prepare        prepare_base, prepare_adapter: files made once, in a cache folder
"""
