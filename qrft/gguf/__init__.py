"""Base models and LoRA adapters as GGUF files, and the check that llama.cpp computes what transformers computes.

weights        safetensors folders, read tensor by tensor without torch
architecture   which configurations are supported, their GGUF metadata, names and layouts
vocabulary     tokens and merges, so that people can chat with the export
lora           peft folders: what can be exported, and the matrices
base           export_base
adapter        export_adapter
parity         check_parity
"""
