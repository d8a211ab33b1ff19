"""Files, cameras and folders become frames with true times and 16 kHz mono sound."""
