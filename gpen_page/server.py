"""Serves the page and the API on this machine, or with a password to others."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from gpen_core.errors import FeatureMissingError, SettingsError
from gpen_core.options import AUTO

from .engine import Engine
from .guard import NAME, Guard

PORT = 7860
_OTHER_PORTS = 20  # tried if the usual one is taken


def serve(
    say: Callable[[str], None],
    *,
    models_dir: Path | None = None,
    port: int | None = None,
    listen: bool = False,
    password: str | None = None,
    browser: bool = True,
) -> None:
    """Serves until Ctrl-C. Raises FeatureMissingError without gradio, SettingsError for a port that is taken.

    port: None for 7860 or the next free one. listen: others may connect; a password is made if none is given.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # gradio reads these when it is imported
    folder = Path(tempfile.mkdtemp(prefix="gpen-page-"))
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
    try:
        _need_gradio()
        password = password or None
        if listen and password is None:
            password = secrets.token_urlsafe(12)
            say(f"Name: {NAME}, password: {password}")
        app = application(Engine(models_dir), folder, password=password, listen=listen)
        with _bound("0.0.0.0" if listen else "127.0.0.1", port) as bound:  # noqa: S104 - on request, and with a password
            bound.listen()  # whoever comes from now on waits, and is not turned away
            number = bound.getsockname()[1]
            if listen:
                say(f"Others reach the page at http://{socket.gethostname()}:{number}")
            say(f"The page is at http://127.0.0.1:{number} (Ctrl-C ends it)")
            _run(bound, app, f"http://127.0.0.1:{number}" if browser else "")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def application(engine: Engine, folder: Path, *, password: str | None = None, listen: bool = False) -> Any:
    """The page and the API as one ASGI application. folder: for everything temporary."""
    gr = _need_gradio()
    fastapi = import_module("fastapi")

    from .api import routes
    from .page import CSS, Visits, build

    visits = Visits(folder)
    fonts = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"]
    theme = gr.themes.Default(font=fonts, font_mono=["ui-monospace", "Consolas", "monospace"])
    theme = theme.set(block_info_text_color="*neutral_500", block_info_text_color_dark="*neutral_400")  # its own is hard to read
    app = fastapi.FastAPI(openapi_url=None, routes=routes(engine))
    page = build(engine, visits, _devices())
    mounted = gr.mount_gradio_app(
        app, page, path="/", theme=theme, css=CSS, footer_links=[], run_history=False, ssr_mode=False, mcp_server=False, show_error=False,
        enable_monitoring=False, pwa=False, server_name="127.0.0.1",
    )  # fmt: skip
    guarded = Guard(mounted, password=password, loopback_only=not listen)
    guarded.at_end = visits.cancel_all
    return guarded


def _need_gradio() -> Any:
    try:
        return import_module("gradio")
    except Exception as error:  # a broken build can raise anything
        raise FeatureMissingError(
            f"the page needs gradio, which cannot be imported ({error}); install it with: pip install gradio"
        ) from error


def _bound(host: str, port: int | None) -> socket.socket:
    """A socket on the port, or for None on the usual one or the next that is free. Raises SettingsError."""
    for number in _ports(port):
        made = socket.socket()
        if os.name != "nt":  # on Windows it would share the port with another program
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, number))
        except OSError as error:
            made.close()
            if port is not None or error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise SettingsError(f"port {number} cannot be used ({error.strerror}); choose another with --port") from error
        else:
            return made
    raise SettingsError(f"ports {PORT} to {PORT + _OTHER_PORTS} are all in use; choose another with --port")


def _ports(port: int | None) -> Iterator[int]:
    yield from range(PORT, PORT + _OTHER_PORTS + 1) if port is None else (port,)


def _run(bound: socket.socket, app: Any, open_at: str) -> None:
    uvicorn = import_module("uvicorn")
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    if open_at:
        threading.Thread(target=_open, args=(server, open_at), daemon=True).start()
    # uvicorn ends in order and then raises what it got again, which would skip what its callers clean up.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    try:
        with suppress(KeyboardInterrupt):
            server.run(sockets=[bound])
    finally:
        app.at_end()


def _open(server: Any, address: str) -> None:
    while not server.started:
        if server.should_exit:
            return
        time.sleep(0.1)
    webbrowser.open(address)


def _devices() -> list[str]:
    """The choices of `device` on this machine."""
    torch = import_module("torch")
    found = [AUTO, "cpu"]
    if torch.cuda.is_available():
        found += ["cuda", *(f"cuda:{index}" for index in range(1, torch.cuda.device_count()))]
    found += [name for name in ("mps", "xpu") if _has(torch, name)]
    return found


def _has(torch: Any, name: str) -> bool:
    backend = getattr(torch, name, None) if name == "xpu" else getattr(torch.backends, name, None)
    return bool(backend is not None and backend.is_available())
