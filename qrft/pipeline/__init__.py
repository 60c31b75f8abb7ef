"""A run: which steps a recipe needs, how they are executed, and where what they make is kept."""
