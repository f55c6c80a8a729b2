from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

def on_app_started(callback: Callable[[Any, FastAPI], None]) -> None: ...  # the first argument is gradio's Blocks, None with --nowebui
def on_before_ui(callback: Callable[[], None]) -> None: ...
def on_infotext_pasted(callback: Callable[[str, dict[str, Any]], None]) -> None: ...
