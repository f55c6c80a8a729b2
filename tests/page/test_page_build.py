"""The page itself, where gradio is installed: tests/page/test_page_browser.py installs it, and drives the page."""

from __future__ import annotations

from html import unescape

import pytest

from gpen_core.options import RestoreOptions

pytest.importorskip("gradio", reason="gradio is an extra: pip install gradio")


def test_every_setting_is_on_the_page_with_its_label_and_help(engine, tmp_path):
    from gpen_page.page import Visits, build

    config = build(engine, Visits(tmp_path), ["auto", "cpu"]).get_config_file()
    shown = {part["props"].get("elem_id"): part["props"] for part in config["components"]}
    texts = [unescape(str(part["props"].get("value", ""))) for part in config["components"]]
    for option in RestoreOptions.table():
        if option.name == "model":
            continue
        control = shown[f"gpen-{option.name}"]
        assert control["label"] == option.label
        assert control.get("info") == option.help or any(option.help in text for text in texts)
        for limit in ("minimum", "maximum", "step"):
            if option.kind in ("int", "float"):
                assert control[limit] == getattr(option, limit)
    assert not config["analytics_enabled"]
