"""What coders and other programs say of a video, in their own files."""
