"""The command line as a program, with the weights and the detector that ship with the project. Few runs: each imports torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from cli_help import run
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PORTRAIT = ROOT / "examples" / "portrait.png"


def program(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GPEN_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("GPEN_MODELS_DIR", None)
    command = [sys.executable, "-m", "gpen_core", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_restore_with_what_ships(tmp_path):
    blank = tmp_path / "blank.png"
    Image.new("RGB", (64, 48), (90, 90, 90)).save(blank)
    (tmp_path / "text.png").write_text("I am a text")
    done = program(tmp_path, "restore", PORTRAIT, "text.png", blank, "-o", "out", "--json", "--compare")
    told = json.loads(done.stdout)
    assert done.returncode == 1 and told["failed"] == 1 and told["model"] == "GPEN-BFR-256-lite"
    portrait, text, empty = told["inputs"]
    assert len(portrait["faces"]) >= 1 and all(face["status"] == "restored" for face in portrait["faces"])
    assert text["output"] is None and empty["faces"] == [] and empty["error"] is None
    lines = done.stderr.splitlines()
    assert any("GPEN-BFR-2048" in line and "using GPEN-BFR-256-lite instead" in line for line in lines)
    assert sum("text.png" in line for line in lines) == 1 and "Traceback" not in done.stderr and "%|" not in done.stderr

    before, after = (
        np.asarray(Image.open(PORTRAIT).convert("RGB")),
        np.asarray(Image.open(tmp_path / "out" / "portrait.png").convert("RGB")),
    )
    assert before.shape == after.shape and not np.array_equal(before, after)
    x0, y0, x1, y1 = portrait["faces"][0]["box"]
    assert 0 <= x0 < x1 <= before.shape[1] and 0 <= y0 < y1 <= before.shape[0]
    assert np.array_equal(np.asarray(Image.open(blank)), np.asarray(Image.open(tmp_path / "out" / "blank.png")))  # no face: the identity
    assert (tmp_path / "out" / "portrait-compare.png").is_file()


def test_a_turned_grey_photograph_gets_colours_and_a_hole_in_it_is_filled(tmp_path, capsys, recipe):
    """With weights made from seeds, in a file whose task nobody knows; turned as a telephone does it."""
    state = recipe.make_state_dict(recipe.gpen_shapes(64, 2, 0.125))
    torch.save({key: torch.from_numpy(value) for key, value in state.items()}, tmp_path / "own.pth")
    upright = Image.open(PORTRAIT).convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise to show it
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    given = np.asarray(upright).astype(int)
    hole = np.zeros(given.shape, np.uint8)
    hole[70:84, 120:160] = 255
    Image.fromarray(hole).save(tmp_path / "hole.png")
    settings = ("--model", tmp_path / "own.pth", "--device", "cpu")
    code, out, err = run(capsys, "colorize", tmp_path / "a.png", "-o", tmp_path / "c.png", *settings, "--json")
    assert (code, err) == (0, "") and [face["status"] for face in json.loads(out)["inputs"][0]["faces"]] == ["restored"]
    colours = np.asarray(Image.open(tmp_path / "c.png")).astype(int)
    assert colours.shape == (*given.shape, 3) and np.abs(colours @ (0.299, 0.587, 0.114) - given).max() <= 0.501
    coloured = colours.max(axis=2) > colours.min(axis=2)
    assert coloured[60:90, 120:160].mean() > 0.9 and not coloured[150:].any()
    code, _, err = run(capsys, "inpaint", tmp_path / "a.png", "-o", tmp_path / "i.png", *settings, "--hole-mask", tmp_path / "hole.png")
    filled = np.asarray(Image.open(tmp_path / "i.png")).astype(int)
    assert (code, err) == (0, "") and filled.shape == given.shape
    assert np.array_equal(filled[hole == 0], given[hole == 0]) and (filled != given)[hole > 0].mean() > 0.8


def test_detect_draws(tmp_path):
    done = program(tmp_path, "detect", PORTRAIT, "-o", "drawn.png")
    assert done.returncode == 0 and "1 face" in done.stdout and "score" in done.stdout, done.stderr
    assert not np.array_equal(
        np.asarray(Image.open(tmp_path / "drawn.png").convert("RGB")), np.asarray(Image.open(PORTRAIT).convert("RGB"))
    )


def test_a_model_asked_for_by_name_is_never_replaced(tmp_path):
    done = program(tmp_path, "restore", PORTRAIT, "-o", "out.png", "--model", "GPEN-BFR-512", "--json")
    assert done.returncode == 3 and done.stdout == "" and "GPEN-BFR-512.pth" in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
