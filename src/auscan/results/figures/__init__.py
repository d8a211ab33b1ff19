"""Figures of a result: plots, overlay video, attention maps and HTML report."""
