from __future__ import annotations

from typing import Any

import gradio as gr


class InputAccordion(gr.Component):
    """A checkbox and the accordion that it opens."""

    def __init__(self, value: bool, label: str) -> None:
        super().__init__(label=label, value=value)
        self.accordion = gr.Accordion(label)

    def __enter__(self) -> InputAccordion:
        self.accordion.__enter__()
        return self

    def __exit__(self, *_: Any) -> None:
        self.accordion.__exit__()
