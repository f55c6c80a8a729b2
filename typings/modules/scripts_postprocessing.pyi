from typing import Any

class PostprocessedImage:
    image: Any  # PIL's Image; the host takes an array back
    info: dict[str, Any]

class ScriptPostprocessing:
    name: str | None
    order: int
    def ui(self) -> dict[str, Any]: ...
    def process(self, pp: PostprocessedImage, **args: Any) -> None: ...
