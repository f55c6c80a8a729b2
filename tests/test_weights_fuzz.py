"""Small valid files, damaged at random from a seed: every reader ends in a result or in one clean sentence."""

from __future__ import annotations

import io
import random

import official_like
import pytest
import torch
from safetensors.torch import save
from test_weights_onnx import export
from weights_help import tiny_state

from gpen_core.errors import WeightsError
from gpen_core.weights.checkpoint import read_generator, read_shapes, read_state_dict
from gpen_core.weights.files import identify

COUNT = {"zip": 50, "legacy": 50, "safetensors": 50, "onnx": 8}  # about a second for each
NUMBERS = [b"\xff" * 8, bytes(8), b"\x7f" * 8, (1 << 62).to_bytes(8, "little")]


def saved(zipped: bool) -> bytes:
    out = io.BytesIO()
    torch.save(tiny_state(1 / 256), out, _use_new_zipfile_serialization=zipped)
    return out.getvalue()


def exported(folder) -> bytes:
    pytest.importorskip("onnx")
    network = official_like.OfficialLike([2] * 5, style=8, layers=2).eval()
    return export(network, folder / "whole.onnx").read_bytes()


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """Bits flipped, bytes changed, parts cut out or repeated, lengths that lie: mostly at both ends, where the lists are."""
    data = bytearray(whole)
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        if not data:
            break
        near = rng.randrange(min(len(data), 6000))
        place = rng.choice([near, len(data) - 1 - near, rng.randrange(len(data))])
        how = rng.randrange(5)
        if how == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[place] = rng.randrange(256)
        elif how == 2:
            del data[place : place + rng.choice([1, 2, 8, 100, len(data)])]
        elif how == 3:
            data[place:place] = data[near : near + rng.choice([1, 4, 30, 1000])]
        else:
            data[place : place + 8] = rng.choice(NUMBERS)
    return bytes(data)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors", "onnx"])
def test_damaged_at_random(tmp_path, form):
    make = {"zip": lambda: saved(True), "legacy": lambda: saved(False), "safetensors": lambda: save(tiny_state(1 / 256))}
    whole = exported(tmp_path) if form == "onnx" else make[form]()
    path = tmp_path / "a.bin"
    path.write_bytes(whole)
    assert read_generator(path) and identify(path) is None  # whole it is a generator, of a shape that is not in the catalogue
    rng, refused = random.Random(form), 0
    for n in range(COUNT[form]):
        path = tmp_path / f"{n}.bin"
        path.write_bytes(damaged(whole, rng))
        for read in (read_shapes, read_state_dict, read_generator, identify):
            try:
                read(path)
            except WeightsError as error:
                refused += 1
                assert str(error).isprintable() and len(str(error)) < 1200
    assert refused > COUNT[form]
