"""Weights: finding them (files), downloading them (download), reading them safely (checkpoint). Imports nothing heavy."""
