"""The only place from media to results."""
