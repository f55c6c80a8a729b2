"""The training settings: one table, read from a YAML file and overridden on the command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import yaml


@dataclass(frozen=True)
class Plan:
    """The settings. Every field is a key of the --config file and a command-line option."""

    size: int = 256
    channel_multiplier: float = 1
    narrow: float = 0.25
    start: str = ""  # run folder or weight file to take the initial weights from; empty: the identity
    batch: int = 8
    pictures: int = 100_000
    minutes: float = 1e9
    learning_rate: float = 6e-3
    falling: bool = True  # the learning rate falls to zero as half a cosine; otherwise it stays constant
    warm_up: int = 800  # pictures
    ema: float = 0.998
    psnr_weight: float = 0.04  # of psnr_loss; pixel_loss has weight 1
    perceptual_weight: float = 0.0  # of the embedded face detector's features
    landmark_weight: float = 0.0  # of the detector's landmarks
    adversarial: float = 0.0  # the discriminator's gradient, as a share of the pixel losses' gradient; 0: none
    feature_matching: float = 1.0  # weight of the discriminator's features within its gradient
    sharpness: float = 0.0  # above 0: that share is adapted until restored pictures have this sharpness relative to the originals
    crop: int = 128  # side of the squares that the discriminator sees
    discriminator_rate: float = 2e-3
    discriminator_top: int = 16  # channels at full size; each halving of the size doubles them
    r1: float = 0.01
    r1_every: int = 16  # steps
    clean_share: float = 0.04  # share of pictures that are not degraded: good pictures must stay unchanged
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
    """Adds --config and an option for each field; options that are not given stay None."""
    parser.add_argument("--config", type=Path, help="YAML file with settings; command-line options override it")
    for field in fields(Plan):
        kind = KINDS[field.name]
        name = f"--{field.name.replace('_', '-')}"
        if kind is bool:
            parser.add_argument(name, action=argparse.BooleanOptionalAction)
        else:
            parser.add_argument(name, type=kind, help=f"default {field.default}")


def read_plan(options: dict[str, Any]) -> Plan:
    """The plan from parsed options. Raises SystemExit with a message if the file contains anything but settings."""
    settings: dict[str, Any] = {}
    if options.get("config") is not None:
        path: Path = options["config"]
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        if not isinstance(content, dict):
            raise SystemExit(f"{path} holds no settings: use lines such as 'batch: 8'")
        for key, value in cast("dict[Any, Any]", content).items():
            if key not in KINDS:
                raise SystemExit(f"{path}: there is no setting '{key}'; use one of {', '.join(KINDS)}")
            if KINDS[key] is bool and not isinstance(value, bool):
                raise SystemExit(f"{path}: {key} must be true or false, not {value!r}")
            try:
                settings[key] = KINDS[key](value)  # YAML reads 1e-3 as text
            except (TypeError, ValueError):
                raise SystemExit(f"{path}: {key} must be of type {KINDS[key].__name__}, not {value!r}") from None
    settings |= {field.name: options[field.name] for field in fields(Plan) if options.get(field.name) is not None}
    return Plan(**settings)
