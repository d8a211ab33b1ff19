"""Readers of codings: files of human coders and of other programs."""
