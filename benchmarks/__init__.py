"""Scripts that measure auscan. README.md lists them."""
