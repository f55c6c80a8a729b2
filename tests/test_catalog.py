from __future__ import annotations

import dataclasses
import re

import pytest

from gpen_core.errors import SettingsError
from gpen_core.weights.architecture import Architecture
from gpen_core.weights.catalog import Catalog


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.default()


def test_every_official_file_and_the_embedded_one_are_there(catalog):
    assert catalog.names() == [
        "GPEN-BFR-256",
        "GPEN-BFR-512",
        "GPEN-BFR-1024",
        "GPEN-BFR-2048",
        "GPEN-Colorization-1024",
        "GPEN-Inpainting-1024",
        "GPEN-Seg2face-512",
        "GPEN-BFR-256-lite",
    ]
    assert catalog.names("colorize") == ["GPEN-Colorization-1024"]
    assert [entry.name for entry in catalog if entry.embedded] == ["GPEN-BFR-256-lite"]
    assert catalog.get("GPEN-BFR-256-lite").template == "ffhq"


def test_figures_agree_with_the_architecture(catalog):
    for entry in catalog:
        if entry.tensor_bytes is None:
            continue
        shapes = Architecture(entry.size, entry.channel_multiplier, entry.narrow).state_shapes()
        count = {key: 1 for key in shapes}
        for key, shape in shapes.items():
            for side in shape:
                count[key] *= side
        assert sum(n for key, n in count.items() if not key.endswith(".kernel")) == entry.parameters, entry.name
        assert 4 * sum(count.values()) == entry.tensor_bytes, entry.name


@pytest.mark.parametrize(
    "name", ["gpen-bfr-2048", "GPEN-BFR-2048.pth", "GPEN-BFR-2048.safetensors", " gpen_bfr_2048.onnx ", "selfie", "Selfie"]
)
def test_names_in_any_case_and_file_names(catalog, name):
    assert catalog.get(name).name == "GPEN-BFR-2048"
    assert name in catalog


def test_unknown_name_tells_the_nearest(catalog):
    with pytest.raises(SettingsError, match="did you mean GPEN-BFR-2048"):
        catalog.get("GPEN-BFR-2084")
    with pytest.raises(SettingsError, match="known models: GPEN-BFR-256"):
        catalog.get("xyz")


def test_duplicates_are_refused(catalog):
    first, second, *_ = catalog
    with pytest.raises(SettingsError, match="twice"):
        Catalog([first, first])
    with pytest.raises(SettingsError, match="twice"):
        Catalog([first, dataclasses.replace(second, known_onnx=first.known_onnx)])
    with pytest.raises(SettingsError, match="twice"):
        Catalog([dataclasses.replace(first, aliases=("portrait",)), dataclasses.replace(second, aliases=("portrait",))])


def test_sums_and_addresses_are_well_formed(catalog):
    for entry in catalog:
        assert all(re.fullmatch("[0-9a-f]{64}", text) for text in entry.known_sums)
        assert all(url.startswith("https://") for url in entry.urls)
        assert entry.embedded or entry.urls


def test_official_rows_carry_the_licence(catalog):
    assert all("non-commercial" in entry.licence for entry in catalog if not entry.embedded)
