from types import ModuleType
from typing import Any

AlwaysVisible: object

class PostprocessImageArgs:
    image: Any

class Script:
    def title(self) -> str: ...
    def show(self, is_img2img: bool) -> object: ...  # bool or AlwaysVisible
    def ui(self, is_img2img: bool) -> list[Any] | None: ...
    def process(self, p: Any, *args: Any) -> None: ...
    def postprocess_image(self, p: Any, pp: PostprocessImageArgs, *args: Any) -> None: ...

class ScriptClassData:
    script_class: type
    module: ModuleType

scripts_data: list[ScriptClassData]
