"""Two copies of the extension in one WebUI, as after an update under another name: one of them works, and the other says so."""

from __future__ import annotations

import argparse
import importlib.util
import shutil
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def test_the_second_copy_adds_nothing_and_says_so_once(host, portrait, tmp_path):
    scripts, callbacks = host.module("scripts"), host.module("script_callbacks")
    alone = [data.script_class.__name__ for data in (*scripts.scripts_data, *scripts.postprocessing_scripts_data)]
    counts = {name: len(made) for name, made in callbacks.registered.items()}
    axes, settings = list(host.plot.axis_options), set(host.opts.data_labels)
    host.opts.face_restoration_model, host.opts.gpen_model = "GPEN", "GPEN-BFR-256-lite"
    wanted = host.restore_faces(portrait)
    second = tmp_path / "extensions" / "another copy"
    for name in ("scripts", "gpen_webui", "gpen_core"):
        shutil.copytree(ROOT / name, second / name, ignore=shutil.ignore_patterns("__pycache__", "embedded"))
    for _ in range(2):  # the start, and Reload UI
        plot = scripts.ScriptClassData(scripts.Script, host.plot)
        scripts.load_scripts(ROOT, [plot], second)
        assert [data.script_class.__name__ for data in (*scripts.scripts_data, *scripts.postprocessing_scripts_data)] == alone
        assert {name: len(made) for name, made in callbacks.registered.items()} == counts
    said = [line for line in host.reported if "two copies" in line]
    assert host.reported == said and len(said) == 1 and str(second) in said[0] and str(ROOT) in said[0]
    assert [one.name() for one in host.module("shared").face_restorers].count("GPEN") == 1
    assert host.plot.axis_options == axes and set(host.opts.data_labels) == settings
    np.testing.assert_array_equal(host.restore_faces(portrait), wanted)


def test_the_flag_is_added_once(tmp_path):
    parser = argparse.ArgumentParser()
    for name in ("one", "other"):
        spec = importlib.util.spec_from_file_location(name, ROOT / "preload.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.preload(parser)
    assert parser.parse_args(["--gpen-models-path", "x"]).gpen_models_path == "x"
