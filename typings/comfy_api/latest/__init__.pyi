from collections.abc import Sequence
from typing import Any

class _IO:
    class NodeReplace:  # ComfyUI 0.13 and later
        def __init__(
            self,
            new_node_id: str,
            old_node_id: str,
            old_widget_ids: Sequence[str] | None = ...,
            input_mapping: Sequence[dict[str, Any]] | None = ...,
            output_mapping: Sequence[dict[str, int]] | None = ...,
        ) -> None: ...

io: _IO

class ComfyAPISync:
    class NodeReplacement:
        def register(self, node_replace: _IO.NodeReplace) -> None: ...

    node_replacement: NodeReplacement
