"""Render a synthetic data set in Aff-Wild2's format, with known labels. See docs/synth.md."""
