from __future__ import annotations

models_path: str = "models"  # the fixture sets it before anything reads it
