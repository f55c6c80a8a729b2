"""Presets lie under what the user sets, and over the defaults: in Python and on the command line.

The other doors have this test where their hosts are: tests/a1111/test_a1111_table.py, tests/comfyui/test_pack.py.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cli_help import run
from option_promises import NAMES, ORDERS
from option_world import LITE, Drawn, World, draw, own_model, tinted
from PIL import Image

from gpen_core.cli.pictures import _given  # pyright: ignore[reportPrivateUsage]
from gpen_core.errors import SettingsError
from gpen_core.options import PRESET, PRESET_CONTROL, RestoreOptions
from gpen_core.presets import NO_PRESET, PRESETS

ROOT = Path(__file__).resolve().parents[1]
EVERYWHERE = {option.name for option in RestoreOptions.of("look", "finding", "choosing", "pasting")}
OTHER: dict[str, Any] = {"threshold": 0.55, "min_size": 33, "order": ORDERS[-1], "max_faces": 7, "detail": 0.35, "auto_strength": "off"}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_its_values_and_defaults_otherwise(name: str) -> None:
    values = PRESETS[name].values
    made = RestoreOptions.preset(name)
    assert made.changed() == {key: value for key, value in values.items() if value != getattr(RestoreOptions(), key)} != {}
    assert made == RestoreOptions(**values), "each value is one that its setting takes, and needs no conversion"  # type: ignore[arg-type]
    assert set(values) <= EVERYWHERE - {"strength", "fidelity"}, "in every door, and in no plot"
    assert set(values) <= set(NAMES), "its effect on the picture is tested"


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_set_wins(name: str) -> None:
    for key, value in PRESETS[name].values.items():
        default = getattr(RestoreOptions(), key)
        other = not value if isinstance(value, bool) else OTHER[key]
        assert getattr(RestoreOptions.preset(name, **{key: other}), key) == other
        assert getattr(RestoreOptions.preset(name, **{key: default}), key) == default, "even if it is the default"
        # A control always has a value, so that its default says nothing.
        if other != default:
            assert getattr(RestoreOptions.from_controls({"preset": name, key: other}), key) == other
        assert getattr(RestoreOptions.from_controls({"preset": name, key: default}), key) == value
    assert RestoreOptions.preset(name, strength=0.4).strength == 0.4


def test_no_preset_changes_nothing() -> None:
    given = {"threshold": 0.9, "max_faces": 2}
    for made in (RestoreOptions.from_mapping, RestoreOptions.from_controls):
        assert made({"preset": NO_PRESET, **given}) == made(given) == RestoreOptions(max_faces=2)
    assert PRESET.checked(NO_PRESET) == PRESET.default


def test_mistakes_are_named() -> None:
    with pytest.raises(SettingsError, match=r"^preset must be one of none, portrait, .*'grup' is not \(did you mean group\?\)$"):
        RestoreOptions.preset("grup")
    for made in (RestoreOptions.from_mapping, RestoreOptions.from_controls):
        with pytest.raises(SettingsError, match="there is no setting 'threshhold'"):
            made({"preset": "group", "threshhold": 0.5})
        with pytest.raises(SettingsError, match="threshold must be between"):
            made({"preset": "group", "threshold": 5})


def test_the_command_line_has_them_with_their_sentences(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    for command in ("restore", "detect"):
        code, out, _ = run(capsys, command, "--help")
        assert code == 0 and f"--preset {{{','.join((NO_PRESET, *PRESETS))}}}" in out
        for name, preset in PRESETS.items():
            assert f"{name}: {preset.help}" in out
    assert PRESET_CONTROL.choices == PRESET.choices and PRESET_CONTROL.help != PRESET.help


def test_the_command_line_takes_only_what_was_given_as_explicit() -> None:
    given = argparse.Namespace(preset="group", threshold="0.9", max_faces=None)
    assert RestoreOptions.from_mapping(_given(given)) == RestoreOptions.preset("group", threshold=0.9)


def test_a_preset_reaches_the_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("GPEN_OFFLINE", "1")
    own_model(tmp_path)
    World(monkeypatch).paint = tinted  # a face that the preset's guard lets pass
    scene = draw((90, 180), Drawn("clear", (45, 45), 64, 0.95), Drawn("doubtful", (135, 45), 64, 0.75))
    Image.fromarray(scene.pixels).save(tmp_path / "in.png")
    outside = (tmp_path / "in.png", "-o", tmp_path / "out.png", "--overwrite", "--models-dir", tmp_path, "--model", LITE)
    for flags, wanted in (
        ((), {"clear"}),
        (("--preset", "group"), {"clear", "doubtful"}),
        (("--preset", "group", "--threshold", "0.9"), {"clear"}),
        (("--preset", "anime-safe"), set[str]()),
    ):
        code, _, err = run(capsys, "restore", *outside, *flags)
        assert code == 0, err
        with Image.open(tmp_path / "out.png") as picture:
            assert scene.painted(np.asarray(picture, np.float32) / 255) == wanted, flags


def test_the_docs_say_what_each_does() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    rows = {name: (pictures, values) for name, pictures, values in re.findall(r"^\| `([a-z-]+)` \| (.*?) \| (.*?) \|$", text, re.MULTILINE)}
    for name, preset in PRESETS.items():
        shown = (f"{key} {('yes' if value else 'no') if isinstance(value, bool) else f'{value:g}' if isinstance(value, float) else value}"
                 for key, value in preset.values.items())  # fmt: skip
        assert rows[name] == (preset.help, ", ".join(f"`{one}`" for one in shown))


def test_the_docs_code_fills_scratches_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "old-photos.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    ramp = np.tile(np.linspace(60, 120, 48, dtype=np.uint8)[:, None], (3, 1, 48)).transpose(1, 2, 0)
    scratched, mask = ramp.copy(), np.zeros((48, 48), np.uint8)
    cv2.line(scratched, (10, 5), (30, 40), (255, 255, 255), 1)
    cv2.line(mask, (10, 5), (30, 40), 255, 3)
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("scan.png", scratched)
    cv2.imwrite("scratches.png", mask)
    exec(compile(code, "old-photos.md", "exec"), {})
    filled = cv2.imread("filled.png")
    assert filled is not None and np.array_equal(filled[mask == 0], ramp[mask == 0])
    assert np.abs(filled.astype(int) - ramp)[mask > 0].max() < 12
