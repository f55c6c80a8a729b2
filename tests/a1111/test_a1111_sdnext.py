"""SD.Next, which has no face restorers any more, and makes an accordion of its own around each Extras script."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest
from PIL import Image
from test_a1111_api import LITE, pixels, png, start

NAMES = ("GpenExtras", "GpenTasks")


def in_an_accordion(host, name, title):
    """(what ui() returned, the titles of all accordions), made inside one as SD.Next does it, with a row between."""
    import gradio as gr

    made = []

    class Accordion(gr.Accordion):
        def __init__(self, label="", **arguments):
            super().__init__(label, **arguments)
            made.append(label)

    script, before = host.extras(name), gr.Accordion
    gr.Accordion = Accordion
    try:
        with Accordion(title), gr.Row():
            return script.ui(), made
    finally:
        gr.Accordion = before


def test_nothing_that_needs_a_restorer_is_loaded(sdnext):
    scripts = sdnext.module("scripts")
    assert [data.script_class.__name__ for data in scripts.postprocessing_scripts_data] == list(NAMES)
    assert [data.module for data in scripts.scripts_data] == [sdnext.plot] and len(sdnext.plot.axis_options) == 1
    assert not [name for name in sys.modules if name in ("gpen_webui.restorer", "gpen_webui.infotext", "gpen_webui.xyz")]
    assert not sdnext.reported and "gpen_detector" in sdnext.opts.data_labels  # Extras reads what the accordion lacks from Settings


@pytest.mark.parametrize("name", NAMES)
def test_the_hosts_accordion_gets_a_switch_and_no_second_title(sdnext, name):
    title = sdnext.extras(name).name
    controls, titles = in_an_accordion(sdnext, name, title)
    assert titles == [title]
    assert next(iter(controls)) == "enable" and (controls["enable"].label, controls["enable"].value) == ("Enable", False)


def test_an_accordion_of_another_title_does_not_count(sdnext):
    assert in_an_accordion(sdnext, "GpenExtras", "Extensions")[1] == ["Extensions", "GPEN"]


@pytest.mark.parametrize("name", NAMES)
def test_other_hosts_get_one_title_too(host, name):
    import gradio as gr

    with gr.Row():
        enable = host.extras(name).ui()["enable"]
    assert enable.label == host.extras(name).name and isinstance(enable, host.module("ui_components").InputAccordion)


def test_extras_restores(sdnext, portrait):
    pp = sdnext.module("scripts_postprocessing").PostprocessedImage(Image.fromarray(portrait))
    sdnext.extras().process(pp, enable=True, model=LITE)
    assert (np.asarray(pp.image) != portrait).any() and pp.info["GPEN restored"] == "1 of 1 face"


def test_trouble_is_logged(sdnext, portrait, caplog):
    pp = sdnext.module("scripts_postprocessing").PostprocessedImage(Image.fromarray(portrait))
    with caplog.at_level(logging.ERROR):
        sdnext.extras().process(pp, enable=True, model="GPEN-BFR-1024")
    assert "GPEN: the picture is unchanged" in caplog.text and "GPEN" in pp.info


@pytest.mark.parametrize("name", NAMES)
def test_a_video_is_left_alone_and_the_console_says_so(sdnext, name, caplog):
    """SD.Next's Process Video hands over a path and no picture."""
    pp = sdnext.module("scripts_postprocessing").PostprocessedImage(None)
    pp.video = "clip.mp4"
    with caplog.at_level(logging.ERROR):
        sdnext.extras(name).process(pp, enable=True)
    assert pp.image is None and pp.video == "clip.mp4" and "videos" in caplog.text and "bug" not in caplog.text


def test_the_api_restores_and_asks_for_the_passwords_of_both_flags(sdnext, portrait, tmp_path):
    flags = sdnext.module("shared").cmd_opts
    answer = start(sdnext).post("/gpen/restore", json={"image": png(portrait), "model": LITE})
    assert answer.status_code == 200 and (pixels(answer.json()) != portrait).any()
    flags.auth = '"ann:secret",ben:other'
    flags.auth_file = str(tmp_path / "users.txt")
    (tmp_path / "users.txt").write_text("carl:third\n\n", encoding="utf-8")
    client = start(sdnext)
    assert client.get("/gpen/models").status_code == 401
    for name, password, status in (
        ("ann", "secret", 200),
        ("ben", "other", 200),
        ("carl", "third", 200),
        ("carl", "other", 401),
        ("", "", 401),
    ):
        assert client.get("/gpen/models", auth=(name, password)).status_code == status, name
    flags.auth = None
    assert start(sdnext).get("/gpen/models").status_code == 401, "a file alone is enough"
