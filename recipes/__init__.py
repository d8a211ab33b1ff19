"""Scripts that make the files shipped with auscan: the model, the face detector, the licence list."""
