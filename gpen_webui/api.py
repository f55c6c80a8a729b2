"""The routes POST /gpen/restore, /gpen/colorize and /gpen/inpaint, and GET /gpen/models, beside the host's own API, with its password."""

# No `from __future__ import annotations`: FastAPI could not resolve the types of nested functions.
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Optional

import pydantic
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from modules import script_callbacks, shared
from modules.call_queue import queue_lock
from pydantic import Field

from gpen_core.errors import FeatureMissingError, GpenError, PictureError, SettingsError, WeightsError
from gpen_core.options import AUTO, PRESET, Option, RestoreOptions
from gpen_core.pictures import sent
from gpen_core.task_options import TaskOptions
from gpen_core.weights.catalog import Task

from . import host
from .engine import ENGINE
from .models import listing
from .progress import Stopped

_TYPES = {"int": int, "float": float, "bool": bool, "text": str}


class _Strict(pydantic.BaseModel):
    """Makes a misspelt field an error. pydantic 1 and 2 need different settings for it."""

    if pydantic.VERSION.startswith("1."):

        class Config:
            extra = "forbid"
    else:
        model_config = {"extra": "forbid"}


def _field(option: Option) -> tuple[Any, Any]:
    limits: dict[str, Any] = {"ge": option.minimum, "le": option.maximum} if option.kind in ("int", "float") else {}
    kind = Literal[option.choices] if option.kind == "choice" else _TYPES[option.kind]
    return kind, Field(option.default, title=option.label, description=option.help, **limits)


_IMAGE_HELP = (
    "PNG, JPEG, WebP, TIFF or BMP in base64, or a data: URI. 16 bit, alpha, ICC profile and EXIF are kept. "
    f"At most {sent.MAX_BYTES >> 20} MiB and {sent.MAX_PIXELS >> 20} megapixels."
)

# A path would let anyone on the network read this machine's files.
_PERSON_HELP = (
    "Restore only one person's faces: a picture of that person, in base64 or a data: URI like `image`, never a path (empty: anyone's). "
    "Needs a face recogniser's file, w600k_r50.onnx."
)
_HOLE_HELP = "A picture of the same size, white where to fill. Empty: what is painted white in the faces is filled."


def _request(name: str, table: Sequence[Option], **more: Any) -> Any:
    fields: dict[str, Any] = {option.name: _field(option) for option in table}
    fields["person"] = (str, Field("", title="Person", description=_PERSON_HELP))
    image = (str, Field(..., title="Picture", description=_IMAGE_HELP))
    return pydantic.create_model(name, __base__=_Strict, image=image, **more, **fields)


_OF_PICTURES = tuple(option for option in RestoreOptions.table() if option not in RestoreOptions.of("frames"))
RestoreRequest = _request("GpenRestoreRequest", (PRESET, *_OF_PICTURES))
ColorizeRequest = _request("GpenColorizeRequest", TaskOptions.table("colorize"))
InpaintRequest = _request(
    "GpenInpaintRequest", TaskOptions.table("inpaint"), hole=(str, Field("", title="Hole mask", description=_HOLE_HELP))
)


class FaceInfo(pydantic.BaseModel):
    """One face, in pixels of the picture that was sent."""

    index: int = Field(..., description="Its number in the chosen order, from 0.")
    box: list[float] = Field(..., description="left, top, right, bottom")
    landmarks: list[list[float]] = Field(..., description="Eyes, tip of the nose, corners of the mouth, each as (x, y).")
    score: float = Field(..., description="The detector's confidence, 0 to 1.")
    angle: int = Field(0, description="The rotation of the picture, in degrees, when the face was found.")
    status: str = Field(
        ..., description="restored, kept (a guard left the original), failed (the original stays) or stopped (interrupted before)."
    )
    reason: str = Field("", description="Why it was not restored.")
    strength: float = Field(0.0, description="How much of the restored face was blended in, 0 to 1.")


class RestoreResponse(pydantic.BaseModel):
    image: str = Field(..., description="The restored picture: PNG in base64.")
    faces: list[FaceInfo]
    seconds: float = Field(..., description="Seconds the restoration took, without the wait in the queue.")
    model: str = Field(..., description="The model used, even if the request said `auto`.")
    scale: float = Field(..., description="Output size over input size.")
    stopped: bool = Field(..., description="Whether Interrupt or Skip ended it. Faces finished by then are in the picture.")


class ModelInfo(pydantic.BaseModel):
    name: str
    size: Optional[int] = Field(None, description="Side of the square face it restores, in pixels.")  # noqa: UP045 - pydantic 1, Python 3.10
    on_disk: bool = Field(..., description="False: it is downloaded on first use.")
    embedded: bool = Field(..., description="True: it comes with the extension.")
    licence: Optional[str] = None  # noqa: UP045


def restore(request: Any, task: Task = "restore") -> RestoreResponse:
    """Restores the faces of one picture, or does another task, after waiting in the host's queue. Raises HTTPException.

    Requests wait as text and are decoded in their turn, so only one picture at a time is in memory.
    """
    given: dict[str, Any] = {"exclude_unset": True}  # a preset lies under what was sent, and over what was not
    values = request.dict(**given) if pydantic.VERSION.startswith("1.") else request.model_dump(**given)
    _only_a_name(values.get("model", AUTO))
    try:
        texts = {name: values.pop(name, "") for name in ("image", "hole", "person")}
        data = {name: sent.from_base64(text, name) for name, text in texts.items() if text or name == "image"}
        options = TaskOptions.from_mapping(task, values) if task in ("colorize", "inpaint") else RestoreOptions.from_mapping(values)
        with queue_lock:
            shared.state.begin("gpen")
            try:
                return _restored(data, options)
            finally:
                shared.state.end()
    except sent.TooLargeError as error:
        raise HTTPException(413, str(error)) from error
    except (SettingsError, PictureError, FeatureMissingError) as error:
        raise HTTPException(422, _told(error, task)) from error
    except (WeightsError, Stopped) as error:
        raise HTTPException(503, _told(error, task)) from error
    except GpenError as error:
        raise HTTPException(500, _told(error, task)) from error


def _restored(data: dict[str, bytes], options: RestoreOptions | TaskOptions) -> RestoreResponse:
    hole = sent.picture_from(data["hole"], "hole").pixels.max(axis=2) if "hole" in data else None
    person = sent.picture_from(data["person"], "person") if "person" in data else None
    result = ENGINE.run(sent.picture_from(data["image"], "image"), options, hole, person=person)
    image = sent.to_base64(result.image)
    faces: list[FaceInfo] = []
    for face in result.faces:
        told: dict[str, Any] = {**face.to_json(), "reason": face.reason and host.public(face.reason)}
        faces.append(FaceInfo(**told))
    return RestoreResponse(image=image, faces=faces, seconds=result.seconds, model=result.model, scale=result.scale, stopped=result.stopped)


def _told(error: GpenError, task: Task) -> str:
    """The error's message for the response. If that leaves something out, the console gets the whole message."""
    text = host.public(error)
    if text != str(error):
        host.report(f"/gpen/{task}: {error}")
    return text


def models() -> list[ModelInfo]:
    """The models that `model` accepts besides auto."""
    return [ModelInfo(**row) for row in listing()]


def _only_a_name(model: str) -> None:
    """Rejects paths from the network: a path could name any file on this machine, or on another one."""
    if model != AUTO and (Path(model).name != model or "\\" in model or ":" in model):
        raise HTTPException(422, f"model must be a name from GET /gpen/models or a file name in models/GPEN, not a path: {model!a}")


class _Route(APIRoute):
    """Rejects oversized requests before storing them, and explains errors without echoing the whole request."""

    def get_route_handler(self) -> Any:
        handle = super().get_route_handler()
        pictures = 2 if self.path.endswith("/inpaint") else 1  # there a mask as well

        async def checked(request: Request) -> Any:
            length = request.headers.get("content-length", "")
            if length.isdigit() and int(length) > sent.largest_request(pictures):
                async for _ in request.stream():  # read and discarded; otherwise the client sees a broken connection and no response
                    pass
                raise HTTPException(413, str(sent.too_large("the request")))
            try:
                return await handle(request)
            except RequestValidationError as error:
                wrong = [{"loc": [_sendable(part) for part in each["loc"]], "msg": _sendable(each["msg"])} for each in error.errors()]
                raise HTTPException(422, wrong) from error

        return checked


def _sendable(value: Any) -> Any:
    """Text without lone surrogates, which JSON accepts but UTF-8 cannot encode."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value


def _credentials() -> dict[str, str]:
    """Names and passwords of --api-auth (SD.Next: --auth and --auth-file), as the host reads them. Empty: everyone may call."""
    given = getattr(shared.cmd_opts, "api_auth", None)
    listed = given.split(",") if given else _of_sdnext()
    pairs = (pair.strip().partition(":") for pair in listed if pair.strip())
    return {name.strip(): password.strip() for name, _, password in pairs}


def _of_sdnext() -> list[str]:
    given = getattr(shared.cmd_opts, "auth", None) or ""
    file = getattr(shared.cmd_opts, "auth_file", None)
    lines = Path(file).read_text("utf-8").splitlines() if file else []
    return [pair.replace('"', "") for pair in (*given.split(","), *lines)]


def _guard(known: dict[str, str]) -> Any:
    def check(given: HTTPBasicCredentials = Depends(HTTPBasic())) -> None:  # noqa: B008 - how FastAPI declares dependencies
        password = known.get(given.username)
        if password is None or not secrets.compare_digest(given.password.encode(), password.encode()):
            raise HTTPException(401, "Incorrect username or password", headers={"WWW-Authenticate": "Basic"})

    return Depends(check)


_ROUTES: tuple[tuple[Task, Any, str], ...] = (
    ("restore", RestoreRequest, "Restore the faces of a picture"),
    ("colorize", ColorizeRequest, "Colourise the faces of a black-and-white picture"),
    ("inpaint", InpaintRequest, "Fill holes in the faces of a picture"),
)


def _post(task: Task, kind: Any) -> Callable[[Any], RestoreResponse]:
    def post(request: Any) -> RestoreResponse:
        return restore(request, task)

    post.__annotations__["request"] = kind  # FastAPI reads it there; type checkers reject a class made at run time
    post.__name__ = f"gpen_{task}"
    return post


def add_routes(_demo: Any, app: FastAPI) -> None:
    """Adds the routes if the host's own API is on (--api or --nowebui)."""
    if not (getattr(shared.cmd_opts, "api", True) or getattr(shared.cmd_opts, "nowebui", False)):
        return
    known = _credentials()
    more: dict[str, Any] = {"tags": ["GPEN face restoration"], "dependencies": [_guard(known)] if known else []}

    errors: dict[int | str, dict[str, Any]] = {
        413: {"description": "The picture's file is too large."},
        422: {"description": "A setting or the picture cannot be used. `detail` says which and why."},
        503: {"description": "The weights are not on disk and cannot be downloaded now."},
    }
    router = APIRouter(route_class=_Route)
    for task, kind, summary in _ROUTES:
        router.add_api_route(
            f"/gpen/{task}",
            _post(task, kind),
            methods=["POST"],
            response_model=RestoreResponse,
            responses=errors,
            summary=summary,
            description="Settings left out have the defaults shown here. The WebUI's own Settings are not used.",
            **more,
        )
    router.add_api_route(
        "/gpen/models",
        models,
        methods=["GET"],
        response_model=list[ModelInfo],
        summary="List the available models",
        **more,
    )
    app.include_router(router)


def register() -> None:
    script_callbacks.on_app_started(add_routes)
