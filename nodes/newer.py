"""The same nodes in ComfyUI's newer form (V3: `io.Schema` and `comfy_entrypoint`).

Made from the classes of the older form, so that ids, names and the order of inputs and outputs cannot differ: a workflow or prompt of one
form runs in the other. For that reason no list brings other settings with it (`io.DynamicCombo`): it would rename them ("factor" to
"output_size.factor").
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

log = logging.getLogger(__name__)
_WIDGETS = {"INT": "Int", "FLOAT": "Float", "BOOLEAN": "Boolean", "STRING": "String"}


def entrypoint(nodes: Mapping[str, Any]) -> Callable[[], Awaitable[Any]] | None:
    """`comfy_entrypoint` for these nodes, or None where ComfyUI does not know the newer form as it is used here. nodes: ours, by their ids.

    The form of older versions (0.8; 0.17 has all) lacks words that the nodes use (`search_aliases`, `advanced`), and the oldest do not
    check what is chosen from its lists: they get the older form.
    """
    try:
        api: Any = importlib.import_module("comfy_api.latest")
        made = [newer(api.io, name, node) for name, node in nodes.items()]
        for node in made:
            node.GET_SCHEMA()  # as ComfyUI will: what it would refuse is found here, where the older form can still be used
        extension: Any = api.ComfyExtension
    except Exception as error:  # the form is still being changed, and an error in it would cost all nodes
        log.debug("this ComfyUI gets the nodes in the older form: %s", error)
        return None

    class Extension(extension):
        async def get_node_list(self) -> list[Any]:
            return made

    async def comfy_entrypoint() -> Any:
        return Extension()

    return comfy_entrypoint


def newer(io: Any, name: str, node: Any) -> Any:
    """A class of the newer form for a node of the older one. io: `comfy_api.latest.io`."""
    hidden = node.INPUT_TYPES().get("hidden", {})
    # So that the report comes again with every prompt, also where the node's result is kept and it does not run.
    again = node.RETURN_NAMES[-1] == "report" or getattr(node, "HAS_INTERMEDIATE_OUTPUT", False)
    more = {"has_intermediate_output": True} if again and "has_intermediate_output" in io.Schema.__dataclass_fields__ else {}

    def define_schema(cls: Any) -> Any:
        kinds = node.INPUT_TYPES()  # each time anew, as it lists files
        return io.Schema(
            node_id=name,
            display_name=node.TITLE,
            category=node.CATEGORY,
            description=node.DESCRIPTION,
            is_output_node=getattr(node, "OUTPUT_NODE", False),
            inputs=[
                _input(io, key, *given, optional=part == "optional")
                for part in ("required", "optional")
                for key, given in kinds.get(part, {}).items()
            ],
            outputs=[
                io.Custom(kind).Output(display_name=shown, tooltip=tip)
                for kind, shown, tip in zip(node.RETURN_TYPES, node.RETURN_NAMES, node.OUTPUT_TOOLTIPS, strict=True)
            ],
            hidden=[io.Hidden(value) for value in hidden.values()],
            search_aliases=list(node.SEARCH_ALIASES),
            **more,
        )

    def execute(cls: Any, **values: Any) -> Any:
        values |= {key: getattr(cls.hidden, key) for key in hidden}
        answer = getattr(node(), node.FUNCTION)(**values)
        if isinstance(answer, dict):
            return io.NodeOutput(*answer["result"], ui=answer["ui"])
        return io.NodeOutput(*answer)

    def fingerprint_inputs(cls: Any, **values: Any) -> Any:
        return node.IS_CHANGED(**values)

    members: dict[str, Any] = {"define_schema": define_schema, "execute": execute}
    if hasattr(node, "VALIDATE_INPUTS"):
        members["validate_inputs"] = node.VALIDATE_INPUTS.__func__  # itself, because ComfyUI reads the names of its arguments
    if hasattr(node, "IS_CHANGED"):
        members["fingerprint_inputs"] = fingerprint_inputs
    made = {key: classmethod(member) for key, member in members.items()}
    return type(node.__name__, (io.ComfyNode,), {"__module__": node.__module__, "__doc__": node.__doc__, **made})


def _input(io: Any, name: str, kind: Any, settings: Mapping[str, Any], *, optional: bool) -> Any:
    if isinstance(kind, list):
        return io.Combo.Input(name, options=kind, optional=optional, **settings)
    of = getattr(io, _WIDGETS[kind]) if kind in _WIDGETS else io.Custom(kind)
    return of.Input(name, optional=optional, **settings)
