"""A day with a graphics card in one command: `python -m benchmarks.card`; see __main__.py."""
