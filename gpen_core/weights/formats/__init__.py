"""Readers of weight files, grouped by format; none can run code."""
