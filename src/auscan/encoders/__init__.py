"""Crops become visual tokens, sound becomes audio tokens."""
