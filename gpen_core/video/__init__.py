"""Videos: restored frame by frame, with sound and everything else copied."""
