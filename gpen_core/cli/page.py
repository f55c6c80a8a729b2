"""The command `page`: a page in the browser to try everything, and an HTTP API."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from ..errors import FeatureMissingError
from .console import Console


def page(arguments: argparse.Namespace, console: Console) -> int:
    """`page`: serves until Ctrl-C."""
    try:
        server: Any = importlib.import_module("gpen_page.server")
    except ModuleNotFoundError as error:
        if error.name not in ("gpen_page", "gpen_page.server"):
            raise
        raise FeatureMissingError("this copy has no page: its folder gpen_page is missing; get the whole project") from error
    server.serve(
        console.say,
        models_dir=arguments.models_dir,
        port=arguments.port,
        listen=arguments.listen,
        password=arguments.password,
        browser=not arguments.no_browser,
    )
    return 0
