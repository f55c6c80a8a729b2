"""Readers of weight files, one room a format; none can run code."""
