"""Figures anyone can print. Each module runs with `python -m`."""
