"""Base models, and all that qrft knows of them.

names           base models known by name
find            where a base model is, and its fingerprint
architectures   the supported ones, and how they differ
shape           the one count of parameters, from config.json
flops           floating-point operations of training and sampling
loading         transformers and peft on untrusted folders: no code, one message
json_file       the JSON files of a folder
whole           whether a base's folder is whole, checked before any work
weights         safetensors folders, read tensor by tensor without torch
templates       chat templates, run in a process of their own
prompts         from a question to a prompt and its token ids
bases/          the base models that come with qrft
gguf/           their files for llama.cpp
"""
