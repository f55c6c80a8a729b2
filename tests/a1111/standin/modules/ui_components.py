from __future__ import annotations

from typing import Any

import gradio as gr


class InputAccordion(gr.Component):
    def __init__(self, value: bool, label: str) -> None:
        super().__init__(label=label, value=value)

    def __enter__(self) -> InputAccordion:
        return self

    def __exit__(self, *_: Any) -> None: ...
