"""The command line: one file per command; the only room that reads `argv` and the environment."""
