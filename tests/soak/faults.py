"""A fault at every call of the core in a small real run, NaN in everything that its functions give, and interrupts at lines in between."""

from __future__ import annotations

import argparse
import logging
import random
import warnings
from collections import Counter
from collections.abc import Iterator

import numpy as np
from faults import Fault, Spoiler, alive, calls, lines, one_fault, one_nan, world

LINES = 300  # that are interrupted, of several thousand


def run(given: argparse.Namespace) -> Iterator[tuple[str, bool]]:
    logging.disable(logging.WARNING)  # each fault is a line there
    try:
        with world() as made, warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            rng = random.Random(given.seed)
            names = calls(lambda: made.run(made.restorer(), "out.png"))
            for number in (0, len(names) // 2):  # what is made once, is made now
                one_fault(made, number, Fault)
            before = alive()
            kinds = (KeyboardInterrupt, Fault, MemoryError)
            ended = Counter(one_fault(made, at, kinds[at % 3]) for at in range(len(names)))
            yield _told(
                f"an interrupt, an error or no memory at each of {len(names)} calls of {len(set(names))} functions", ended, made.lost
            )
            count = lines(lambda: made.run(made.restorer(), "out.png"))
            chosen = rng.sample(range(count), min(LINES, count))
            ended = Counter(one_fault(made, at, KeyboardInterrupt, line=True) for at in chosen)
            yield _told(f"an interrupt at {len(chosen)} of {count} lines", ended, made.lost)
            spoiler = Spoiler()
            with spoiler.used():
                made.run(made.restorer(), "out.png")
                given_by = list(spoiler.names)
                ended = Counter(one_nan(made, spoiler, at, name) for at, name in enumerate(given_by))
            yield _told(f"NaN in what {len(given_by)} calls of {len(set(given_by))} functions give", ended, made.lost)
            grown = alive() - before
            yield f"arrays, tensors and frames alive after all of them: {grown:+}", grown <= 20
    finally:
        logging.disable(logging.NOTSET)


def _told(what: str, ended: Counter[str], lost: list[str]) -> tuple[str, bool]:
    how = ", ".join(f"{count} {name}" for name, count in sorted(ended.items()))
    shown = f"{len(lost)} losses {lost[:3]}" if lost else "losses: none"
    kept = not lost
    lost.clear()
    return f"{what} ({how}); {shown}", kept
