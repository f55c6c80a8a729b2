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
    """The host would also instantiate a base class in a script's namespace, and fail to start."""
    names = [data.script_class.__name__ for data in host.module("scripts").postprocessing_scripts_data]
    names += [data.script_class.__name__ for data in host.module("scripts").scripts_data if data.module is not host.plot]
    assert sorted(names) == ["GpenExtras", "GpenInfotext", "GpenTasks"]
    assert host.extras().order == 2500 and host.extras("GpenTasks").order == 2400


@pytest.mark.parametrize("enable", [None, False])
def test_nothing_is_done_unless_asked(host, portrait, enable):
    picture = Image.fromarray(portrait)
    arguments = dict.fromkeys(option.name for option in host.ours("fields").extras())  # None: the host's own API
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


@pytest.mark.parametrize(
    "path",
    [
        "/srv/ann/x.pth", "C:\\of\\ann\\x.pth", "d:/ann/x.pth", "\\\\server\\ann\\x.pth", "~/ann/x.pth", "~ann/x.pth", "../ann/x.pth",
        "ann/x.pth", "ann\\x.pth", "work/ann/x", "file:///srv/ann/x.pth", "/ann",
    ],
)  # fmt: skip
@pytest.mark.parametrize("sentence", ["{} is damaged", "put it into '{}' and try again", "not found ({}); go on", "C++ said: {}", "a,{}"])
def test_what_others_see_names_no_folder(host, path, sentence):
    from gpen_core.errors import WeightsError

    told = host.ours("host").public(WeightsError(sentence.format(path)))
    assert "ann" not in told.replace("cannot", "") and told == "a weight file cannot be used; see the WebUI's console for details"


@pytest.mark.parametrize(
    "sentence", ["strength must be between 0 and 1; 7 is not", "take it and/or leave it", "get it from https://example.org/a/b.pth"]
)
def test_what_others_see_is_otherwise_the_whole_sentence(host, sentence):
    public, folder = host.ours("host").public, host.models / "GPEN"
    assert public(sentence + "\nmore") == sentence
    assert public(f"{sentence}; put it into {folder} and try again") == f"{sentence}; put it into {Path('models') / 'GPEN'} and try again"


def test_a_picture_never_tells_where_it_was_made(host, portrait, tmp_path):
    picture = Image.fromarray(portrait)
    own = tmp_path / "ann" / "own.safetensors"
    own.parent.mkdir()
    own.write_bytes((ROOT / "gpen_core" / "weights" / "embedded" / f"{LITE}.safetensors").read_bytes())
    told = [processed(host, picture, enable=True, model=model).info for model in (str(own), str(own) + ".pth", "GPEN-BFR-1024", "")]
    assert told[0]["GPEN model"] == own.name and told[0]["GPEN restored"] == "1 of 1 face"
    assert [list(info) for info in told[1:]] == [["GPEN"]] * 3 and all(info["GPEN"].startswith("not restored: ") for info in told[1:])
    assert "into models" in told[2]["GPEN"] and not told[2]["GPEN"].endswith(":")
    assert "ann" not in str(told) and str(tmp_path) not in str(told) and len(host.reported) == 3


def test_interrupt_is_said(host, portrait):
    host.state.interrupted = True
    pp = processed(host, Image.fromarray(portrait), enable=True)
    assert pp.info["GPEN restored"] == "interrupted before any face was found"
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
