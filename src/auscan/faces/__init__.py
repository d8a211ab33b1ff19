"""Frames become tracks and aligned crops."""
