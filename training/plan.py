"""What is trained and how: one table of settings, read from a YAML file and overruled on the command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import yaml


@dataclass(frozen=True)
class Plan:
    """Every field may stand in a file for --config, and is a command-line option."""

    size: int = 256
    channel_multiplier: float = 1
    narrow: float = 0.25
    start: str = ""  # run folder or weight file whose weights this training starts from; the identity where empty
    batch: int = 8
    pictures: int = 100_000
    minutes: float = 1e9
    learning_rate: float = 6e-3
    falling: bool = True  # the learning rate falls to zero towards the end, as half a cosine; else it stays
    warm_up: int = 800  # pictures
    ema: float = 0.998
    psnr_weight: float = 0.04  # of psnr_loss beside pixel_loss
    perceptual_weight: float = 0.0  # of the features of the face detector that ships with the project
    landmark_weight: float = 0.0  # of the places where it sees eyes, nose and mouth
    adversarial: float = 0.0  # the discriminator's pull on the picture, in parts of the pixel losses' pull; 0: none
    feature_matching: float = 1.0  # within that pull: features of the discriminator beside its verdict
    sharpness: float = 0.0  # above 0: the pull is steered until restored pictures are as sharp as that, in parts of the true ones
    crop: int = 128  # side of the squares that the discriminator looks at
    discriminator_rate: float = 2e-3
    discriminator_top: int = 16  # channels at the full size; they double with every halving
    r1: float = 0.01
    r1_every: int = 16  # steps
    clean_share: float = 0.04  # share of pictures that are not spoilt: what is good must stay as it is
    photo_share: float = 0.35  # share of photographs (all but the painterly data set) among the pictures drawn
    seed: int = 2048
    workers: int = 1
    bf16: bool = True
    compile: bool = True
    log_every: int = 400  # pictures, as are the next two
    save_every: int = 4000
    sheet_every: int = 8000  # sample sheets in RUN/samples, 0 for none


KINDS: dict[str, type[Any]] = {field.name: type(getattr(Plan, field.name)) for field in fields(Plan)}


def add_options(parser: argparse.ArgumentParser) -> None:
    """--config and an option for each field; what is not given stays None."""
    parser.add_argument("--config", type=Path, help="YAML file with settings; options given beside it count more")
    for field in fields(Plan):
        kind = KINDS[field.name]
        name = f"--{field.name.replace('_', '-')}"
        if kind is bool:
            parser.add_argument(name, action=argparse.BooleanOptionalAction)
        else:
            parser.add_argument(name, type=kind, help=f"default {field.default}")


def read_plan(options: dict[str, Any]) -> Plan:
    """The plan of parsed options. Raises SystemExit with a sentence where the file holds what is no setting."""
    settings: dict[str, Any] = {}
    if options.get("config") is not None:
        path: Path = options["config"]
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        if not isinstance(content, dict):
            raise SystemExit(f"{path} holds no settings: lines such as 'batch: 8' are wanted")
        for key, value in cast("dict[Any, Any]", content).items():
            if key not in KINDS:
                raise SystemExit(f"{path}: there is no setting '{key}'; there are {', '.join(KINDS)}")
            if KINDS[key] is bool and not isinstance(value, bool):
                raise SystemExit(f"{path}: {key} must be true or false, not {value!r}")
            try:
                settings[key] = KINDS[key](value)  # YAML takes 1e-3 for a text
            except (TypeError, ValueError):
                raise SystemExit(f"{path}: {key} must be a {KINDS[key].__name__}, not {value!r}") from None
    settings |= {field.name: options[field.name] for field in fields(Plan) if options.get(field.name) is not None}
    return Plan(**settings)
