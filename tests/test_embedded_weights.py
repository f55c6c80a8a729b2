"""The weights that ship are what their card and the catalogue say."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from half_help import HALVES
from safetensors import safe_open

from gpen_core import Catalog, load_network
from gpen_core.weights.architecture import Architecture
from gpen_core.weights.catalog import EMBEDDED_FOLDER
from gpen_core.weights.sums import verify

NAME = "GPEN-BFR-256-lite"
FILE = EMBEDDED_FOLDER / f"{NAME}.safetensors"
FACTS = json.loads(FILE.with_suffix(".json").read_text(encoding="utf-8"))


def test_file_card_and_catalogue_agree() -> None:
    entry = Catalog.default().get(NAME)
    data = FILE.read_bytes()
    assert len(data) == FACTS["bytes"] == entry.size_bytes <= 20_000_000
    assert hashlib.sha256(data).hexdigest() == FACTS["sha256"] == entry.sha256
    assert verify(FILE, entry).ok
    assert (entry.size, entry.template, entry.embedded) == (256, "ffhq", True)
    card = FILE.with_suffix(".md").read_text(encoding="utf-8")
    assert FACTS["sha256"] in card, "the model card names another file"
    for word in ("CC BY 4.0", "artflow.ai", "DeBruine", "public domain"):
        assert word in card


def test_keys_are_the_official_ones_in_fp16() -> None:
    wanted = Architecture(256, FACTS["channel_multiplier"], FACTS["narrow"]).state_shapes()
    with safe_open(FILE, framework="pt") as file:
        assert set(file.keys()) == set(wanted)
        for key, shape in wanted.items():
            tensor = file.get_tensor(key)
            assert tuple(tensor.shape) == shape and tensor.dtype == torch.float16 and bool(torch.isfinite(tensor).all())


def test_golden_output() -> None:
    """The output on a fixed input, sampled; changes only together with the file (benchmarks and cards name its sum)."""
    network = load_network(NAME)
    ramp = np.linspace(-1, 1, 256, dtype=np.float32)
    x = np.stack([np.tile(ramp, (256, 1)), np.tile(ramp[:, None], (1, 256)), np.outer(ramp, ramp)])[None]
    with torch.inference_mode():
        y = network(torch.from_numpy(x))[0, :, ::64, ::64].numpy()
    golden = np.load(Path(__file__).parent / "golden_lite.npz")
    assert str(golden["sha256"]) == FACTS["sha256"], "run: python -m tests.test_embedded_weights"
    assert np.abs(y - golden["y"]).max() <= 2e-5


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_close(dtype: torch.dtype) -> None:
    x = torch.zeros(1, 3, 256, 256)
    with torch.inference_mode():
        whole, half = load_network(NAME)(x), load_network(NAME, dtype=dtype)(x.to(dtype)).float()
    assert (whole - half).abs().max() <= 0.06 and (whole - half).abs().mean() <= 0.008


if __name__ == "__main__":
    generator = load_network(NAME)
    line = np.linspace(-1, 1, 256, dtype=np.float32)
    picture = np.stack([np.tile(line, (256, 1)), np.tile(line[:, None], (1, 256)), np.outer(line, line)])[None]
    with torch.inference_mode():
        sample = generator(torch.from_numpy(picture))[0, :, ::64, ::64].numpy()
    np.savez(Path(__file__).parent / "golden_lite.npz", y=sample, sha256=FACTS["sha256"])
