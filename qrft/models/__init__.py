"""Base models: where they lie, their shapes, their prompts, and their files for llama.cpp."""
