"""The three bars: what the project wants to reach on a card, judged from figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

MET, MISSED, UNKNOWN = "met", "missed", "not measurable here"
FLOORS = 8.0  # times the floor that a face of 2048 in half precision may take
WHOLE = 1.15  # times the network's time that a picture of 4 megapixels with 8 faces may take
SIZE = 2048


class Bar(NamedTuple):
    name: str
    verdict: str
    figures: str


def judge(name: str, holds: bool, figures: str) -> Bar:
    return Bar(name, MET if holds else MISSED, figures)


def network_bar(seconds: float | None, floor: float | None, peer: float | None, form: str = "") -> Bar:
    """seconds: of one face in half precision. floor: at best on this card. peer: the published time, scaled to this card."""
    name = f"{SIZE} in half precision: within {FLOORS:g} times the floor, and ahead of VisoMaster scaled by memory bandwidth"
    if seconds is None or floor is None or peer is None:
        return Bar(name, UNKNOWN, f"needs a face of {SIZE} in float16 or bfloat16 and the card's bandwidth and throughput")
    figures = f"{1000 * seconds:.2f} ms ({form}): {seconds / floor:.1f} times the floor of {1000 * floor:.2f} ms; VisoMaster scaled: "
    return judge(name, seconds <= FLOORS * floor and seconds < peer, figures + f"{1000 * peer:.2f} ms")


def picture_bar(found: Mapping[int, tuple[float, float]]) -> Bar:
    """found: by the network's size, (seconds of the whole call, seconds of the network in it)."""
    name = f"A picture of 4 megapixels with 8 faces: at most {WHOLE:g} times the network's time, at every size measured"
    if not found:
        return Bar(name, UNKNOWN, "needs that picture, restored on the device")
    figures = [
        f"{size}: {1000 * whole:.0f} ms, network {1000 * network:.0f} ms, {whole / network:.2f} times"
        for size, (whole, network) in found.items()
    ]
    return judge(name, all(whole <= WHOLE * network for whole, network in found.values()), "; ".join(figures))


def memory_bar(left: Mapping[str, int | None]) -> Bar:
    """left: bytes on the device after unloading that were not there before, by the way of unloading."""
    name = "Nothing left after unloading"
    known = {way: size for way, size in left.items() if size is not None}
    if not known or len(known) < len(left):
        return Bar(name, UNKNOWN, "needs a device with memory statistics, on which every way of unloading runs")
    return judge(name, all(size <= 0 for size in known.values()), "; ".join(f"{way}: {size} bytes" for way, size in known.items()))
