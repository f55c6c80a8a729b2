"""How the embedded weights are made: data, degradations, losses, training, evaluation. Each module runs with `python -m`."""
