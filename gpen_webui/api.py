"""The routes POST /gpen/restore and GET /gpen/models, beside the host's own API and under its password."""

# No `from __future__ import annotations`: FastAPI reads the types of functions that are made inside others.
import base64
import binascii
import secrets
import tempfile
from pathlib import Path
from typing import Any, Literal, Optional

import pydantic
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from modules import script_callbacks, shared
from modules.call_queue import queue_lock
from pydantic import Field

from gpen_core.errors import FeatureMissingError, GpenError, PictureError, SettingsError, WeightsError
from gpen_core.options import AUTO, Option, RestoreOptions
from gpen_core.picture import read_picture, write_picture

from .engine import ENGINE
from .models import listing
from .progress import Stopped

_TYPES = {"int": int, "float": float, "bool": bool, "text": str}


class _Strict(pydantic.BaseModel):
    """A misspelt field is an error, not silence. pydantic 1 and 2 are told so in different ways."""

    if pydantic.VERSION.startswith("1."):

        class Config:
            extra = "forbid"
    else:
        model_config = {"extra": "forbid"}


def _field(option: Option) -> tuple[Any, Any]:
    limits = {"ge": option.minimum, "le": option.maximum} if option.kind in ("int", "float") else {}
    kind = Literal[option.choices] if option.kind == "choice" else _TYPES[option.kind]
    return kind, Field(option.default, title=option.label, description=option.help, **limits)


_IMAGE_HELP = "PNG, JPEG, WebP, TIFF or BMP in base64; a data: URI is taken as well. 16 bit, alpha, ICC profile and EXIF are kept."

RestoreRequest = pydantic.create_model(
    "GpenRestoreRequest",
    __base__=_Strict,
    image=(str, Field(..., title="Picture", description=_IMAGE_HELP)),
    **{option.name: _field(option) for option in RestoreOptions.table()},
)


class FaceInfo(pydantic.BaseModel):
    """One face, in pixels of the picture that was sent."""

    index: int = Field(..., description="Its position in the chosen order, from 0.")
    box: list[float] = Field(..., description="left, top, right, bottom")
    landmarks: list[list[float]] = Field(..., description="Eyes, tip of the nose, corners of the mouth; (x, y) each.")
    score: float = Field(..., description="The detector's confidence, 0 to 1.")
    angle: int = Field(0, description="By how many degrees the picture was turned when the face was found.")
    status: str = Field(..., description="restored, failed (the original pixels stay) or stopped (interrupted before it).")
    reason: str = Field("", description="Why it is not restored.")


class RestoreResponse(pydantic.BaseModel):
    image: str = Field(..., description="The restored picture: PNG in base64.")
    faces: list[FaceInfo]
    seconds: float = Field(..., description="Seconds the restoration took, without waiting for the queue.")
    model: str = Field(..., description="The model that was used; what `auto` came to.")
    scale: float = Field(..., description="Output size over input size.")
    stopped: bool = Field(..., description="Whether Interrupt or Skip ended it; the faces done until then are in the picture.")


class ModelInfo(pydantic.BaseModel):
    name: str
    size: Optional[int] = Field(None, description="Side of the square face it restores, in pixels.")  # noqa: UP045 - pydantic 1, Python 3.10
    on_disk: bool = Field(..., description="False: it is fetched at its first use.")
    embedded: bool = Field(..., description="True: it ships with the extension.")
    licence: Optional[str] = None  # noqa: UP045


def restore(request: Any) -> RestoreResponse:
    """Restores the faces of one picture; waits for its turn in the host's queue. Raises HTTPException."""
    values = request.dict() if pydantic.VERSION.startswith("1.") else request.model_dump()
    data = _decoded(values.pop("image"))
    try:
        options = RestoreOptions.from_mapping(values)
        _only_a_name(options.model)
        # By way of files, as the core reads and writes them at full depth with everything that belongs to the picture.
        with tempfile.TemporaryDirectory(prefix="gpen-") as folder:
            source, target = Path(folder) / "picture", Path(folder) / "restored.png"
            source.write_bytes(data)
            picture = _read(source)
            with queue_lock:
                shared.state.begin("gpen")
                try:
                    result = ENGINE.run(picture, options)
                finally:
                    shared.state.end()
            image = base64.b64encode(write_picture(result.image, target).read_bytes()).decode("ascii")
    except (SettingsError, PictureError, FeatureMissingError) as error:
        raise HTTPException(422, str(error)) from error
    except (WeightsError, Stopped) as error:
        raise HTTPException(503, str(error)) from error
    except GpenError as error:
        raise HTTPException(500, str(error)) from error
    faces = [FaceInfo(**face.to_json()) for face in result.faces]
    return RestoreResponse(image=image, faces=faces, seconds=result.seconds, model=result.model, scale=result.scale, stopped=result.stopped)


def models() -> list[ModelInfo]:
    """The models that `model` takes, beside auto."""
    return [ModelInfo(**row) for row in listing()]


def _decoded(text: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(422, f"image is not base64: {error}") from error


def _read(source: Path) -> Any:
    try:
        return read_picture(source)
    except PictureError as error:
        raise PictureError(str(error).replace(str(source), "in `image`")) from error


def _only_a_name(model: str) -> None:
    """From the network no path is taken: it could name any file of this machine, or of another one."""
    if model != AUTO and (Path(model).name != model or "\\" in model or ":" in model):
        raise SettingsError(f"model is a name of GET /gpen/models or a file name in models/GPEN, not a path; {model!r} is one")


def _credentials() -> dict[str, str]:
    """Names and passwords of --api-auth (SD.Next: --auth), as the host reads them. Empty: everyone may call."""
    given = getattr(shared.cmd_opts, "api_auth", None) or getattr(shared.cmd_opts, "auth", None) or ""
    pairs = (pair.strip().partition(":") for pair in given.split(",") if pair.strip())
    return {name: password for name, _, password in pairs}


def _guard(known: dict[str, str]) -> Any:
    def check(given: HTTPBasicCredentials = Depends(HTTPBasic())) -> None:  # noqa: B008 - FastAPI's own way
        password = known.get(given.username)
        if password is None or not secrets.compare_digest(given.password.encode(), password.encode()):
            raise HTTPException(401, "Incorrect username or password", headers={"WWW-Authenticate": "Basic"})

    return Depends(check)


def add_routes(_demo: Any, app: FastAPI) -> None:
    """Adds the routes where the host's own API is on (--api or --nowebui)."""
    if not (getattr(shared.cmd_opts, "api", True) or getattr(shared.cmd_opts, "nowebui", False)):
        return
    known = _credentials()
    more: dict[str, Any] = {"tags": ["GPEN face restoration"], "dependencies": [_guard(known)] if known else []}

    def post_restore(request: RestoreRequest) -> RestoreResponse:  # type: ignore[valid-type]
        return restore(request)

    errors = {
        422: {"description": "A setting or the picture cannot be used; `detail` says which and why."},
        503: {"description": "The weights are not on disk and cannot be fetched now."},
    }
    app.add_api_route(
        "/gpen/restore",
        post_restore,
        methods=["POST"],
        response_model=RestoreResponse,
        responses=errors,
        summary="Restore the faces of a picture",
        description="Every setting has the default shown here; the settings of the WebUI's page are not used.",
        **more,
    )
    app.add_api_route(
        "/gpen/models",
        models,
        methods=["GET"],
        response_model=list[ModelInfo],
        summary="The models that can be asked for",
        **more,
    )


def register() -> None:
    script_callbacks.on_app_started(add_routes)
