"""Whatever a caller of the page's API names, only the models folder is looked at, and nothing is written."""

from __future__ import annotations

import pytest
from hostile_names import FIELDS, mixed, names, prepared, tiny_picture, tree, watched
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gpen_page import api, models
from gpen_page.engine import Engine

LITE = "GPEN-BFR-256-lite"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    (folder / "models" / "GPEN").mkdir(parents=True)
    return folder, prepared(folder), Engine(folder / "models")


def places(folder):
    """Where models may lie: ours, and where another program beside it keeps the same files."""
    return folder / "models", folder / ".assets" / "models"


def refused(world, field: str, name: str) -> None:
    folder, _, engine = world
    image = tiny_picture()
    before = tree(folder)
    with watched(*places(folder)) as touched, pytest.raises(api.Refused) as told:
        api.restored(engine, {"image": image, "model": LITE, field: name})
    assert touched == [], (field, name)
    assert told.value.status in (413, 422, 503) and str(folder) not in told.value.detail, (field, name, told.value.detail)
    assert tree(folder) == before, (field, name)


@pytest.mark.parametrize("field", [field for field in FIELDS if field != "hole"])
def test_no_field_is_a_path(world, field):
    for name in names(world[1])[: None if field in ("model", "person", "image") else 12]:
        refused(world, field, name)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_name_put_together_is_a_path(world, data):
    field, name = data.draw(st.sampled_from(["model", "person"])), data.draw(mixed(world[1]))
    assume(name.strip())  # nothing is nobody, who may be restored
    refused(world, field, name)


def test_models_are_listed_from_their_folder_alone(world):
    with watched(*places(world[0])) as touched:
        models.listing(world[0] / "models")
    assert touched == []


def test_the_watch_notices(world):
    folder, secret, _ = world
    for work in (lambda: (secret / "face.png").read_bytes(), lambda: list(secret.iterdir()), lambda: (secret / "x").is_file()):
        with watched(folder / "models") as touched:
            work()
        assert any(str(secret) in line for line in touched), touched
