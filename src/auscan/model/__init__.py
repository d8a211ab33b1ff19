"""Tokens become logits: alignment, fusion, scan, mamba, head; joined in network.py."""
