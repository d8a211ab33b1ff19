"""Join media, faces, inference and results: from a file or live frames to a table."""
