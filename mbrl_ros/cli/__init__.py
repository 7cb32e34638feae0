"""The command line: one file per command, which only parses options, calls the package and prints text."""
