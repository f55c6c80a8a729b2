"""The Extras accordion and preload.py."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
LITE = "GPEN-BFR-256-lite"


def processed(host, picture, **arguments):
    pp = host.module("scripts_postprocessing").PostprocessedImage(picture)
    host.extras().process(pp, **arguments)
    return pp


def test_only_our_own_classes_are_registered(host):
    """Of a base class in a script's namespace the host would make a script as well, and fail to start."""
    names = [data.script_class.__name__ for data in host.module("scripts").postprocessing_scripts_data]
    names += [data.script_class.__name__ for data in host.module("scripts").scripts_data if data.module is not host.plot]
    assert sorted(names) == ["GpenExtras", "GpenInfotext"]
    assert host.extras().order == 2500


@pytest.mark.parametrize("enable", [None, False])
def test_nothing_is_done_unless_asked(host, portrait, enable):
    picture = Image.fromarray(portrait)
    arguments = dict.fromkeys(host.ours("fields").IN_EXTRAS)  # None: the host's own API
    pp = processed(host, picture, enable=enable, **arguments)
    assert pp.image is picture and pp.info == {}


def test_alpha_stays_and_the_settings_are_written(host, portrait):
    alpha = np.tile(np.linspace(0, 255, 160).astype(np.uint8), (160, 1))
    picture = Image.fromarray(np.dstack([portrait, alpha]))
    pp = processed(host, picture, enable=True, model=LITE, strength=0.5)
    done = np.asarray(pp.image)
    assert pp.image.mode == "RGBA" and pp.image.size == picture.size
    np.testing.assert_array_equal(done[:, :, 3], alpha)
    assert (done[:, :, :3] != portrait).any()
    assert pp.info == {"GPEN model": LITE, "GPEN strength": 0.5, "GPEN restored": "1 of 1 face"}


def test_what_the_accordion_lacks_comes_from_settings(host, portrait):
    host.opts.gpen_min_size = 4000
    pp = processed(host, Image.fromarray(portrait), enable=True)
    np.testing.assert_array_equal(np.asarray(pp.image), portrait)
    assert pp.info == {"GPEN model": LITE, "GPEN min size": 4000, "GPEN restored": "0 of 0 faces"}


@pytest.mark.parametrize(("size", "factor", "wanted"), [("factor", 1.5, 240), ("native", None, None)])
def test_the_output_may_be_larger(host, portrait, size, factor, wanted):
    pp = processed(host, Image.fromarray(portrait), enable=True, output_size=size, factor=factor)
    assert pp.image.mode == "RGB" and (pp.image.width == wanted if wanted else pp.image.width > 160)
    assert pp.info["GPEN output size"] == size


def test_a_picture_that_cannot_be_restored_stays_and_says_so(host, portrait):
    picture = Image.fromarray(portrait)
    pp = processed(host, picture, enable=True, model="GPEN-BFR-1024")
    assert pp.image is picture and list(pp.info) == ["GPEN"] and "GPEN-BFR-1024" in pp.info["GPEN"]
    assert "GPEN-BFR-1024" in host.reported[-1]


def test_interrupt_is_said(host, portrait):
    host.state.interrupted = True
    pp = processed(host, Image.fromarray(portrait), enable=True)
    assert pp.info["GPEN restored"] == "0 of 1 face; interrupted"
    np.testing.assert_array_equal(np.asarray(pp.image), portrait)


def test_the_flag_names_a_further_folder(host, tmp_path):
    parser = argparse.ArgumentParser()
    spec = importlib.util.spec_from_file_location("gpen_preload", ROOT / "preload.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.preload(parser)
    assert parser.parse_args([]).gpen_models_path is None
    folder = tmp_path / "elsewhere ä"
    folder.mkdir()
    own = folder / "gpen tuned.safetensors"
    own.write_bytes((ROOT / "gpen_core" / "weights" / "embedded" / f"{LITE}.safetensors").read_bytes())
    host.module("shared").cmd_opts.gpen_models_path = parser.parse_args(["--gpen-models-path", str(folder)]).gpen_models_path
    assert own.name in host.ours("models").choices()
    assert own.name in [row["name"] for row in host.ours("models").listing()]
