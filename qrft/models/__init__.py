"""Base models, and all that qrft knows of them.

find            where a base model is, and its fingerprint
architectures   the supported ones, and how they differ
shape           the one count of parameters, from config.json
flops           floating-point operations of training and sampling
weights         safetensors folders, read tensor by tensor without torch
prompts         from a question to a prompt and its token ids
bases/          the base models that come with qrft
gguf/           their files for llama.cpp
"""
