"""Encoders: face crops to visual tokens, audio to audio tokens."""
