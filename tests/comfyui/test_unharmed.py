"""A real ComfyUI's process is as it was after the nodes were loaded and used in it; and a second copy of them does not clash."""

from __future__ import annotations

import host
from test_host_unharmed import told_by


def test_comfyui_is_as_it_was(comfy_python, tmp_path):
    told = told_by(comfy_python, "comfyui", tmp_path, GPEN_TEST_COMFY=str(host.COMFY), HF_HUB_OFFLINE="1")
    assert told["compared"] > 20_000
    copies = told["copies"]
    assert copies["alike"] and copies["twice"] == 0, "either copy's nodes work, also with the other's model"
    (line,) = copies["lines"]
    assert "two copies" in line and copies["copy"] in line and str(host.ROOT) in line
    assert told["connections"] == [], "nothing is fetched while it is imported, and its lists are made"
    assert told["loading"] == [] and told["using"] == [], told
