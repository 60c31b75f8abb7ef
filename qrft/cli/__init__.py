"""The command line: what a person types, what the commands do, and what is shown."""
