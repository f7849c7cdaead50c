"""The `detox` command: one command a file, its table below it."""
