"""The result of one input: its table, and everything computed from it. Does not import torch."""
