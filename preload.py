"""Read by the WebUI before it starts: a command-line flag of this extension."""

from __future__ import annotations

import argparse


def preload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gpen-models-path", help="a further folder with GPEN weights, beside models/GPEN", default=None)
