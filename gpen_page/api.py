"""The API beside the page: POST /gpen/v1/restore and GET /gpen/v1/models, with the fields of the WebUI's (docs/a1111.md)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

from gpen_core.errors import FeatureMissingError, GpenError, PictureError, SettingsError, WeightsError, without_folders
from gpen_core.options import PRESET, RestoreOptions
from gpen_core.pictures import sent
from gpen_core.restore.results import RestoreResult
from gpen_core.weights.folders import models_dir as folder_of

from . import models
from .engine import Engine, Job

log = logging.getLogger(__name__)

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
    try:
        data, person = (sent.from_base64(values.pop(name, ""), name) for name in ("image", "person"))
        if not data:
            raise Refused(422, "image is missing: send a picture in base64")
        options = RestoreOptions.from_mapping(values)
        models.check(options.model, engine.models_dir)
        with engine.turn(job or Job()):
            picture = sent.picture_from(data, "image")
            known = sent.picture_from(person, "person") if person else None
            result = engine.restorer(options, known)(picture)
            image = sent.to_base64(result.image)
    except sent.TooLargeError as error:
        raise Refused(413, str(error)) from error
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
        too_large = too_large or len(content) + len(part) > sent.largest_request(2)  # with a picture of a person
        if not too_large:  # else read and thrown away; otherwise the client sees a broken connection and no answer
            content += part
    if too_large:
        raise Refused(413, str(sent.too_large("the request")))
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused(422, f"the request is not JSON: {error}") from error
