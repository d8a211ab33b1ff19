"""Command line interface: each command is a small shell over one library call."""
