"""The command line: thin shells over library functions, one small file a command."""
