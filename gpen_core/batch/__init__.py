"""Batches of pictures and videos: planned first, then run."""
