"""auscan: which facial action units are active in every frame and every face of a video."""
