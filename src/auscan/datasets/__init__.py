"""Read data sets into one index with a row per frame, and cache encoder features for training."""
