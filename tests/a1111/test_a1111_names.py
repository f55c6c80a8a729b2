"""Whatever a caller of the WebUI's API names, only the models folder is looked at, and nothing is written."""

from __future__ import annotations

import pytest
from hostile_names import FIELDS, mixed, names, prepared, tiny_picture, tree, watched
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi", reason="the WebUI brings fastapi")
LITE = "GPEN-BFR-256-lite"


@pytest.fixture
def refused(host, tmp_path):
    """Sends a name in a field of a task's request, and looks at what that touches."""
    from fastapi import HTTPException
    from pydantic import ValidationError

    (host.models / "GPEN").mkdir(parents=True)
    secret, api = prepared(tmp_path), host.ours("api")
    kinds = {"restore": api.RestoreRequest, "colorize": api.ColorizeRequest, "inpaint": api.InpaintRequest}
    image = tiny_picture()

    def send(task: str, field: str, name: str) -> None:
        before = tree(tmp_path)
        with watched(host.models, tmp_path / ".assets" / "models") as touched:
            try:
                api.restore(kinds[task](**{"image": image, "model": LITE, field: name}), task)
                pytest.fail(f"{field} {name!r} was taken")
            except HTTPException as told:
                assert told.status_code in (413, 422, 503), (field, name, told.detail)
                assert str(tmp_path) in name or str(tmp_path) not in str(told.detail), (field, name, told.detail)
            except ValidationError:  # which FastAPI answers with 422
                pass
        assert touched == [], (task, field, name)
        assert tree(tmp_path) == before, (task, field, name)

    send.secret = secret
    return send


@pytest.mark.parametrize("task", ["restore", "colorize", "inpaint"])
def test_no_field_is_a_path(refused, task):
    for field in FIELDS if task == "restore" else ("model", "person", "hole"):
        for name in names(refused.secret)[: None if field in ("model", "person") else 12]:
            refused(task, field, name)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_name_put_together_is_a_path(refused, data):
    refused("restore", data.draw(st.sampled_from(["model", "person"])), data.draw(mixed(refused.secret)))
