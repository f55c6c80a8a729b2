"""Jobs of many pictures and videos: planned first, then run."""
