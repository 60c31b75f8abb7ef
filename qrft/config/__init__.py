"""The recipe: every key with its type and default, and what is wrong with one that is not right."""
