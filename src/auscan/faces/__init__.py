"""Detect, track and align faces: frames -> tracks and aligned crops."""
