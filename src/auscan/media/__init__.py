"""Read files, cameras and folders as frames with timestamps and 16 kHz mono audio."""
