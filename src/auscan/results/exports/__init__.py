"""Exports of a result to the formats of other programs."""
