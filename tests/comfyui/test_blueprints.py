"""The blueprints (subgraphs/): whole, listed by ComfyUI's server, and restoring a face; test_page.py puts them into a graph."""

from __future__ import annotations

import json

import host
import numpy as np
import pages
import pytest
import workflows

FILES = sorted(workflows.BLUEPRINTS.glob("*.json"))
PACK = pages.load_pack()
each = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


@each
def test_a_blueprint_is_one_node_named_like_its_file(path):
    path.read_bytes().decode("ascii")  # ComfyUI 0.3.75 reads it in the system's encoding
    blueprint = workflows.read(path)
    (outer,), (inner,) = blueprint["nodes"], blueprint["definitions"]["subgraphs"]
    assert outer["type"] == inner["id"] and outer["title"] == inner["name"] == path.stem and path.stem.endswith("(GPEN)")
    for kind in ("inputs", "outputs"):
        assert [(one["name"], one["type"]) for one in outer[kind]] == [(one["name"], one["type"]) for one in inner[kind]]
        assert all(one["label"][0].isupper() for one in outer[kind])
    assert blueprint["extra"]["BlueprintDescription"] == inner["extra"]["BlueprintDescription"]


@each
def test_its_nodes_are_those_of_today(path):
    graph = workflows.subgraph(workflows.read(path))
    english = json.loads((host.ROOT / "locales" / "en" / "nodeDefs.json").read_text("utf-8"))
    widgets = {}
    for node in graph["nodes"]:
        named = [given["name"] for given in node["inputs"] if "widget" in given]
        assert len(named) == len(node["widgets_values"])
        widgets[str(node["id"])] = named
        if node["type"].startswith("GPEN"):
            assert named == [name for name, (kind, _) in pages.inputs(PACK, node["type"]).items() if pages.is_setting(kind)]
    ends = {node["id"]: node for node in graph["nodes"]}
    for number, origin, slot, target, into, kind in graph["links"]:
        given = graph["inputs"][slot] if origin == -10 else ends[origin]["outputs"][slot]
        taken = graph["outputs"][into] if target == -20 else ends[target]["inputs"][into]
        assert given["type"] == taken["type"] == kind
        assert number in (given["linkIds"] if origin == -10 else given["links"])
        assert (number in taken["linkIds"]) if target == -20 else taken["link"] == number
    (outer,) = workflows.read(path)["nodes"]
    shown = outer["properties"]["proxyWidgets"]
    assert shown and all(name in widgets[number] for number, name in shown)
    for number, name in shown:  # page 1.58 labels them on the outer node like the inner one's inputs
        (slot,) = (given for given in ends[int(number)]["inputs"] if given["name"] == name and "widget" in given)
        assert slot["label"] == slot["localized_name"] == english[ends[int(number)]["type"]]["inputs"][name]["name"]


def test_the_server_lists_and_gives_them(server):
    listed = {
        entry["name"]: (key, entry)
        for key, entry in server.get("/global_subgraphs").items()
        if host.ROOT.name in entry["info"]["node_pack"]
    }
    assert sorted(listed) == [path.stem for path in FILES] and len(FILES) == 2
    for path in FILES:
        key, entry = listed[path.stem]
        assert entry["source"] == "custom_node" and entry["info"]["node_pack"] == f"custom_nodes.{host.ROOT.name}"
        assert json.loads(server.get(f"/global_subgraphs/{key}")["data"]) == workflows.read(path)


@each
def test_it_restores_a_face(server, path, tmp_path):
    from PIL import Image

    blueprint = workflows.read(path)
    prompt = workflows.expanded(blueprint, ["picture", 0])
    prompt["picture"] = {"class_type": "LoadImage", "inputs": {"image": "mine.png"}}
    outputs = {
        blueprint["nodes"][0]["outputs"][into]["name"]: [str(origin), slot]
        for _, origin, slot, target, into, _ in workflows.subgraph(blueprint)["links"]
        if target == -20
    }
    assert set(outputs) == {one["name"] for one in blueprint["nodes"][0]["outputs"]}
    for name, source in outputs.items():
        if name not in ("mask", "report"):
            prompt[f"keep {name}"] = {"class_type": "SaveImage", "inputs": {"images": source, "filename_prefix": f"blueprint_{name}"}}
    result = server.run(prompt)
    assert result["state"] == "success" and not result["node_errors"], result
    pictures = {}
    for file in server.download(result, tmp_path):
        name = file.name.partition("blueprint_")[2].rpartition("_0")[0]
        with Image.open(file) as picture:
            pictures[name] = np.asarray(picture.convert("RGB")).astype(int)
    with Image.open(host.ROOT / "examples" / "portrait.png") as picture:
        before = np.asarray(picture.convert("RGB")).astype(int)
    changed = np.abs(pictures["image"] - before).max(-1) > 0
    assert 0.03 < changed.mean() < 0.5, "a face of the whole picture"
    small = [picture for name, picture in pictures.items() if name != "image"]
    assert len(small) == 2 and all(picture.shape == (256, 256, 3) for picture in small)
