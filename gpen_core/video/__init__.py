"""Videos: frame by frame, sound and everything else carried over."""
