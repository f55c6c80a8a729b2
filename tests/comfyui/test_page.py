"""ComfyUI's own page in a headless browser: a workflow opened and run, a message seen."""

from __future__ import annotations

import json
import re
import shutil

import host
import pytest
import workflows


@pytest.fixture(scope="module")
def seen(server, comfy_python, tmp_path_factory):
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "chrome"))
    browser = next((path for path in found if path), None)
    if browser is None:
        pytest.skip("needs a browser: install Chromium or Chrome")
    out = tmp_path_factory.mktemp("page")
    workflow = workflows.FOLDER / "Fix a portrait.json"
    # ComfyUI does not run a node again whose result it still has from the tests before, and then shows no report on it.
    server.post("/free", {"unload_models": True, "free_memory": True})
    text = host.run([str(comfy_python), str(host.ROOT / "tests" / "comfyui" / "browse.py"), server.url, browser, str(workflow), str(out)])
    return {**json.loads(text), "folder": out}


def test_a_workflow_opens_and_runs(seen):
    assert not seen["missing"]
    assert "Restore Faces (GPEN)" in seen["titles"] and seen["run"] == "execution_success"
    assert seen["trouble"] == []


@pytest.mark.parametrize("path", workflows.files(), ids=lambda path: path.stem)
def test_the_page_queues_what_the_other_tests_run(seen, path):
    queued = {key: {"class_type": node["class_type"], "inputs": node["inputs"]} for key, node in seen["prompts"][path.stem].items()}
    expected = workflows.prompt(workflows.read(path))
    for key, node in queued.items():
        if host.ANOTHER and not node["class_type"].startswith("GPEN"):  # another version's own nodes can have more inputs
            node["inputs"] = {name: node["inputs"][name] for name in expected[key]["inputs"]}
    assert queued == expected


@pytest.mark.parametrize("path", workflows.files(), ids=lambda path: path.stem)
def test_what_the_page_queues_runs(seen, server, path):
    assert server.run(seen["prompts"][path.stem])["state"] == "success"


def labels_of(path, language):
    """Of the settings that a blueprint shows."""
    texts = json.loads((host.ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8"))
    blueprint = workflows.read(path)
    kinds = {str(node["id"]): node["type"] for node in workflows.subgraph(blueprint)["nodes"]}
    return [texts[kinds[number]]["inputs"][name]["name"] for number, name in blueprint["nodes"][0]["properties"]["proxyWidgets"]]


@pytest.mark.parametrize("path", sorted(workflows.BLUEPRINTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_blueprint_is_put_into_a_graph_and_runs(seen, server, path):
    found = seen["blueprints"][path.stem]
    assert found["title"] == path.stem and found["widgets"] == labels_of(path, "en")
    inside = {}
    for key, node in found["prompt"].items():
        number = key.partition(":")[2]
        if number:  # of the subgraph
            links = {name: [value[0].rpartition(":")[2], value[1]] for name, value in node["inputs"].items() if isinstance(value, list)}
            taken = {name: value for name, value in links.items() if node["inputs"][name][0] != found["picture"]}
            fed = {name: ["the picture", 0] for name in links if name not in taken}
            inside[number] = {"class_type": node["class_type"], "inputs": {**node["inputs"], **taken, **fed}}
    assert inside == workflows.expanded(workflows.read(path), ["the picture", 0])
    assert server.run(found["prompt"])["state"] == "success"


def test_the_page_has_nothing_against_our_script(seen):
    """It names what a pack should not import: modules that are deprecated or its own."""
    ours = (host.ROOT / "web" / "js" / "gpen.js").read_text("utf-8")
    modules = re.findall(r'from "\.\./\.\./\.\./(scripts/\w+\.js)"', ours)
    assert len(modules) >= 2
    assert not [line for line in seen["console"] if any(f'"{module}" is' in line for module in modules) or line.startswith("GPEN:")]


def test_the_picture_of_the_page_shows_something(seen):
    import numpy as np
    from PIL import Image

    for name in ("graph.png", "error.png"):
        picture = np.asarray(Image.open(seen["folder"] / name).convert("RGB"))
        assert picture.shape[:2] == (1000, 1900) and picture.std() > 15


def test_the_report_stays_on_the_node(seen):
    """A separate widget keeps it: newer pages remove ComfyUI's own display of a node's text after the run."""
    assert "1 face restored with GPEN-BFR-256-lite" in seen["reports"]["GPENRestoreFaces"]
    assert "auto: GPEN-BFR-2048 could not be downloaded" in seen["reports"]["GPENLoadModel"]
    # It is no setting: neither a saved workflow nor the server is given it.
    assert "report" not in seen["saved"]["sent"] and not any("restored" in str(value) for value in seen["saved"]["values"])


def test_factor_is_shown_where_it_counts(seen):
    assert seen["factor"] == [True, False, True, False]  # fresh, with the output size factor, native, and opened again with factor


def test_a_setting_that_is_not_shown_leaves_no_hole(seen):
    """Output size and Detail, with Factor between them: one row apart (20 pixels and 4 between rows), not two."""
    assert 0 < seen["rows"] < 30


def test_titles_fit_their_nodes(seen):
    assert len(seen["widths"]) > 12 and all(width >= 310 for _, width in seen["widths"])


@pytest.mark.parametrize("language", ["zh", "zh-TW"])
def test_other_languages_show(seen, language):
    """ComfyUI's page 1.32 drops what a pack brings for any language but English; our script brings it again.

    The label of the report and the category too, which the page does not take from a node's texts.
    """
    there = seen["languages"][language]
    texts, main = (json.loads((host.ROOT / "locales" / language / f"{name}.json").read_text("utf-8")) for name in ("nodeDefs", "main"))
    assert {title for title, _ in there["titles"]} == {text["display_name"] for text in texts.values()}
    for path in workflows.BLUEPRINTS.glob("*.json"):
        assert there["blueprints"][path.stem] == labels_of(path, language)
    own = texts["GPENRestoreFaces"]
    assert {text["name"] for text in own["inputs"].values()} <= set(there["labels"])
    assert {own["outputs"]["5"]["name"], main["nodeCategories"]["face restoration"]} <= set(there["labels"])


def test_a_wrong_setting_is_explained_in_the_dialog(seen):
    assert seen["wrong"] == "execution_error"
    assert "'the first one' is not a list of face numbers; write them like 0,2,4-6, counting from 0." in seen["dialog"]
