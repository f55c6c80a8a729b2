"""Read by the WebUI before it starts: adds a command-line flag."""

from __future__ import annotations

import argparse
import contextlib


def preload(parser: argparse.ArgumentParser) -> None:
    with contextlib.suppress(argparse.ArgumentError):  # another copy of this extension has added it
        parser.add_argument("--gpen-models-path", help="an additional folder with GPEN weights, besides models/GPEN", default=None)
