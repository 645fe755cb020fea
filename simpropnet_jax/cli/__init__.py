"""The command `simpropnet`: one module for each subcommand."""
