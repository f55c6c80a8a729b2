"""Weights: where they live (files), fetching them (download), reading them safely (checkpoint). Imports nothing heavy."""
