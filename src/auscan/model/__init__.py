"""The network, from tokens to logits: alignment, fusion, mamba with scan, head; network.py joins them."""
