"""What a recipe will need, before anything is loaded: tokens, memory, disk, time, energy."""
