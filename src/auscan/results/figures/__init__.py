"""Plots, overlay video and HTML report of a result."""
