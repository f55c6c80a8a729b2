"""The API beside the page: POST /gpen/v1/restore and GET /gpen/v1/models, with the fields of the WebUI's (docs/a1111.md)."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from gpen_core.errors import FeatureMissingError, GpenError, PictureError, SettingsError, WeightsError, without_folders
from gpen_core.options import PRESET, RestoreOptions
from gpen_core.pictures import Picture, pixels_at_most, read_picture, write_picture
from gpen_core.restore.results import RestoreResult
from gpen_core.weights.folders import models_dir as folder_of

from . import models
from .engine import Engine, Job

log = logging.getLogger(__name__)

# A few kilobytes can unpack to gigabytes, so both limits are checked before anything is decoded.
MAX_BYTES = 128 << 20  # of a picture's file
MAX_PIXELS = 64 << 20
_LONGEST = MAX_BYTES * 4 // 3 + 1024  # characters of such a file in base64
_LARGEST = 2 * _LONGEST + 64 * 1024  # of a request: a picture, and one of a person
FIELDS = ("image", PRESET.name, *(option.name for option in RestoreOptions.table()))


class Refused(Exception):
    """A request that is answered with an HTTP status. detail: why."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def restored(engine: Engine, body: Any, job: Job | None = None) -> dict[str, Any]:
    """The answer to a request's JSON. Waits for its turn. Raises Refused."""
    if not isinstance(body, dict):
        raise Refused(422, "the request must be a JSON object")
    values = dict(cast("Mapping[str, Any]", body))
    data, person = _decoded(values.pop("image", ""), "image"), _decoded(values.pop("person", ""), "person")
    if not data:
        raise Refused(422, "image is missing: send a picture in base64")
    try:
        options = RestoreOptions.from_mapping(values)
        models.check(options.model, engine.models_dir)
        with tempfile.TemporaryDirectory(prefix="gpen-") as folder, engine.turn(job or Job()):
            source, target = Path(folder) / "picture", Path(folder) / "restored.png"
            # Through files, because the core reads and writes them at full depth with all their metadata.
            picture = _read(source, data, "image")
            known = _read(Path(folder) / "person", person, "person") if person else None
            result = engine.restorer(options, known)(picture)
            image = base64.b64encode(write_picture(result.image, target).read_bytes()).decode("ascii")
    except (SettingsError, PictureError, FeatureMissingError) as error:
        raise Refused(422, _told(engine, error)) from error
    except WeightsError as error:
        raise Refused(503, _told(engine, error)) from error
    except GpenError as error:
        raise Refused(500, _told(engine, error)) from error
    return {"image": image, **_facts(engine, result)}


def _facts(engine: Engine, result: RestoreResult) -> dict[str, Any]:
    faces = [face.to_json() for face in result.faces]
    for face in faces:
        face["reason"] = face["reason"] and _told(engine, face["reason"])
    return {"faces": faces, "seconds": result.seconds, "model": result.model, "scale": result.scale, "stopped": result.stopped}


def listed(engine: Engine) -> list[dict[str, Any]]:
    """The answer to GET /gpen/v1/models."""
    found = models.listing(engine.models_dir)
    return [{"name": m.name, "size": m.size, "on_disk": m.path is not None, "embedded": m.embedded, "licence": m.licence} for m in found]


def _decoded(text: Any, name: str) -> bytes:
    if not isinstance(text, str):
        raise Refused(422, f"{name} must be text: a picture in base64")
    if len(text) > _LONGEST:
        raise Refused(413, f"{name} is too large: the limit is {MAX_BYTES >> 20} MiB")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(422, f"{name} is not base64: {error}") from error


def _read(path: Path, data: bytes, name: str) -> Picture:
    path.write_bytes(data)
    try:
        with pixels_at_most(MAX_PIXELS):
            return read_picture(path)
    except PictureError as error:
        raise PictureError(str(error).replace(str(path), f"in `{name}`")) from error


def _told(engine: Engine, error: GpenError | str) -> str:
    text = without_folders(error, folder_of(engine.models_dir), "the console has the details")
    if text != str(error):
        log.warning("/gpen/v1: %s", error)
    return text


def routes(engine: Engine) -> list[Any]:
    """The two routes, for Starlette or FastAPI."""
    responses, routing = import_module("starlette.responses"), import_module("starlette.routing")
    in_thread = import_module("starlette.concurrency").run_in_threadpool

    async def restore(request: Any) -> Any:
        try:
            body = await _body(request)
            return responses.JSONResponse(await in_thread(restored, engine, body))
        except Refused as refused:
            return responses.JSONResponse({"detail": refused.detail}, refused.status)
        except Exception:
            log.exception("a bug; please report it")
            return responses.JSONResponse({"detail": "it failed; the console has the details"}, 500)

    async def list_models(request: Any) -> Any:
        return responses.JSONResponse(await in_thread(listed, engine))

    return [routing.Route("/gpen/v1/restore", restore, methods=["POST"]), routing.Route("/gpen/v1/models", list_models)]


async def _body(request: Any) -> Any:
    """The request's JSON. Raises Refused."""
    content = bytearray()
    too_large = False
    async for part in request.stream():
        too_large = too_large or len(content) + len(part) > _LARGEST
        if not too_large:  # else read and thrown away; otherwise the client sees a broken connection and no answer
            content += part
    if too_large:
        raise Refused(413, f"the request is too large: the limit for a picture is {MAX_BYTES >> 20} MiB")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused(422, f"the request is not JSON: {error}") from error
