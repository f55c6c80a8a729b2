"""The example workflows, from the page's form (what a user saves) to the server's (what runs)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "example_workflows"
BLUEPRINTS = FOLDER.parent / "subgraphs"
BOUNDARY = "-10"  # where a subgraph's inputs come from

NOTES = ("Note", "MarkdownNote")  # of the page alone: they are not queued


def files() -> list[Path]:
    return sorted(FOLDER.glob("*.json"))


def prompt(graph: dict[str, Any]) -> dict[str, Any]:
    """The graph as the page would queue it: links by node and slot, widgets by name."""
    sources = {link[0]: [str(link[1]), link[2]] for link in graph["links"]}
    result: dict[str, Any] = {}
    for node in graph["nodes"]:
        if node["type"] in NOTES:
            continue
        values = iter(node.get("widgets_values", []))
        inputs: dict[str, Any] = {}
        for given in node["inputs"]:
            value = next(values, None) if "widget" in given else None
            if given["link"] is not None:
                inputs[given["name"]] = sources[given["link"]]
            elif "widget" in given:
                inputs[given["name"]] = value
        result[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return result


def subgraph(blueprint: dict[str, Any]) -> dict[str, Any]:
    """What is inside a blueprint, as a graph."""
    (inner,) = blueprint["definitions"]["subgraphs"]
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    return {**inner, "links": [[link[name] for name in names] for link in inner["links"]]}


def expanded(blueprint: dict[str, Any], source: list[Any]) -> dict[str, Any]:
    """A blueprint as the page would queue it. source: the node and slot that are connected to its only input."""
    nodes = prompt(subgraph(blueprint))
    for node in nodes.values():
        node["inputs"] = {name: source if value == [BOUNDARY, 0] else value for name, value in node["inputs"].items()}
    return nodes


def notes(graph: dict[str, Any]) -> list[str]:
    """What the graph's notes say."""
    return [node["widgets_values"][0] for node in graph["nodes"] if node["type"] in NOTES]


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))
