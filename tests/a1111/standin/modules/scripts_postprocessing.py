from __future__ import annotations

from typing import Any

from PIL import Image


class PostprocessedImage:
    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self.info: dict[str, Any] = {}


class ScriptPostprocessing:
    order = 1000
    name: str | None = None

    def ui(self) -> dict[str, Any]:
        return {}

    def process(self, pp: PostprocessedImage, **args: Any) -> None: ...
