"""Inference engines (ONNX Runtime, PyTorch) with one interface, and the scoring of tracks with them."""
