"""One tidy table a video, and what is made from it. No torch."""
