"""The report of a job: one HTML file without anything from elsewhere, made in memory that does not grow with the job."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..pictures import Picture, to_pil, write_picture
from ..pictures.disk import whole_file
from .crops import contact_sheet, pair
from .histogram import SCORES, SIZES
from .job import JobFolder, Manifest
from .tally import ERRORS, SAMPLE, Tally, left_of, tally_of

_SIDE = 160  # pixels of a face in a pair
_SMALL = 96  # in the contact sheet
_STYLE = """
body{font:15px/1.5 sans-serif;max-width:64em;margin:2em auto;padding:0 1em;color:#222}
td,th{padding:.1em 1.2em .1em 0;text-align:left;vertical-align:top}
h2{margin-top:1.6em}
figure{display:inline-block;vertical-align:top;margin:0 1em 1em 0}
img{max-width:100%}
.wide{overflow-x:auto}
.long td{overflow-wrap:anywhere}
@media(max-width:40em){.long td,.long th{display:block;padding:0}.long tr{display:block;margin-bottom:.6em}}
figcaption{font-size:12px;max-width:320px;overflow-wrap:anywhere}
code{overflow-wrap:anywhere}
rect{fill:#3b6ea5}
text{font:11px sans-serif;fill:#222}
"""


def write_report(folder: JobFolder, manifest: Manifest, tally: Tally | None = None) -> Path:
    """Writes report.html (and faces.jpg, a sheet of found faces, if the job only looked for them) into the job's folder.

    tally: the sums of all shards, if they are known already.
    """
    shards = range(manifest.shards)
    tally = tally_of(folder, shards) if tally is None else tally
    path = folder.path / "report.html"
    only_found = bool(manifest.settings.get("dry_run"))
    if only_found:
        sheet = contact_sheet(tally.sample, _SMALL)
        if sheet is not None:
            write_picture(sheet, folder.path / "faces.jpg", overwrite=True, quality=88)
    with whole_file(path, overwrite=True) as file:
        file.write(_page(folder, manifest, tally, left_of(tally, manifest, shards), only_found).encode("utf-8", "backslashreplace"))
    return path


def _page(folder: JobFolder, manifest: Manifest, tally: Tally, left: int, only_found: bool) -> str:
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>GPEN job</title><style>{_STYLE}</style>",
        f"<h1>Job {escape(folder.path.resolve().name)}</h1>",
        _table(_counts(manifest, tally, left)),
        "<h2>Faces</h2>",
        _table([(_FACES.get(status, status), f"{count:,}") for status, count in sorted(tally.faces.items())]),
        _histogram("Size: shorter side of the face's box, pixels", tally.sizes, [*(f"&lt;{end}" for end in SIZES), f"{SIZES[-1]}+"]),
        _histogram("Score of the detector", tally.scores, [f"{number / SCORES:.2f}" for number in range(SCORES)]),
    ]
    if only_found:
        shown = min(SAMPLE, sum(tally.faces.values()))
        parts.append(f"<p>{shown} faces, drawn by lot, are in <code>faces.jpg</code>.</p>" if shown else "")
    for title, records in (("Changed most", tally.most), ("Changed least", tally.least)):
        figures = [
            _figure(picture, record["input"], record["change"]) for record in records if (picture := pair(record, _SIDE)) is not None
        ]
        if figures:
            parts.append(
                f"<h2>{title}</h2><p>The largest face, before and after; the mean change of the faces' pixels.</p>{''.join(figures)}"
            )
    if tally.errors:
        more = f" (the first {ERRORS})" if tally.failed + tally.failed_in_tars > ERRORS else ""
        rows = "".join(f"<tr><td><code>{escape(name)}</code><td>{escape(error)}" for name, error in tally.errors)
        parts.append(f"<h2>Errors{more}</h2><table class=long>{rows}</table>")
    settings = sorted((name, str(value)) for name, value in manifest.settings.items())
    parts.append(f"<h2>Settings</h2>{_table([*settings, ('weights (sha256)', manifest.weights)], 'long')}</html>")
    return "\n".join(parts)


_FACES = {
    "restored": "restored",
    "kept": "kept as they were (a guard's decision)",
    "failed": "failed",
    "stopped": "stopped",
    "found": "found",
}


def _counts(manifest: Manifest, tally: Tally, left: int) -> list[tuple[str, str]]:
    rows = [("inputs", f"{manifest.pictures:,}"), ("done", f"{tally.done:,}"), ("failed", f"{tally.failed:,}"), ("left", f"{left:,}")]
    rows += [("outputs that existed, skipped", f"{tally.skipped:,}")] if tally.skipped else []
    rows += [("inputs named twice, done once", f"{manifest.twice:,}")] if manifest.twice else []
    rows.append(("without a face", f"{tally.without_faces:,}"))
    rows += [("pictures in archives", f"{tally.in_tars:,}"), ("failed in archives", f"{tally.failed_in_tars:,}")] if tally.in_tars else []
    if tally.begun is not None and tally.ended is not None:
        first, last = (time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) for at in (tally.begun, tally.ended))
        rows.append(("from, to", f"{first}, {last}"))
    if tally.hours > 0:
        count = tally.done + tally.failed
        rows.append(("hours of all processes together", f"{tally.hours:,.3g}"))
        rows.append(("inputs an hour of one process", f"{count / tally.hours:,.0f}"))
    return rows if manifest.settings.get("dry_run") else [*rows, ("outputs, GB", f"{tally.bytes / 1e9:,.3f}")]


def _table(rows: Sequence[tuple[str, str]], kind: str = "short") -> str:
    return f"<table class={kind}>" + "".join(f"<tr><th>{escape(name)}<td>{escape(value)}" for name, value in rows) + "</table>"


def _histogram(title: str, counts: Sequence[int], labels: Sequence[str]) -> str:
    """Bars as SVG, from the first to the last that is not empty. `labels` are HTML."""
    there = [number for number, count in enumerate(counts) if count]
    if not there:
        return ""
    shown = slice(there[0], there[-1] + 1)
    counts, labels = counts[shown], labels[shown]
    width, height, highest = 48, 120, max(counts)
    bars: list[str] = []
    for number, (count, label) in enumerate(zip(counts, labels, strict=True)):
        tall = round(height * count / highest)
        x = number * width
        bars.append(f'<rect x="{x + 2}" y="{height + 16 - tall}" width="{width - 4}" height="{tall}"/>')
        bars.append(f'<text x="{x + width / 2}" y="{height + 30}" text-anchor="middle">{label}</text>')
        if count:
            bars.append(f'<text x="{x + width / 2}" y="{height + 12 - tall}" text-anchor="middle">{count:,}</text>')
    name = escape(title)
    size = f'width="{width * len(counts)}" height="{height + 36}"'
    return f'<p>{name}</p><div class=wide><svg {size} role="img" aria-label="{name}">{"".join(bars)}</svg></div>'


def _figure(picture: Picture, name: str, change: float) -> str:
    data = base64.b64encode(_jpeg(picture)).decode()
    return f'<figure><img alt="" src="data:image/jpeg;base64,{data}"><figcaption>{change:.4f} {escape(name)}</figcaption></figure>'


def _jpeg(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    to_pil(picture).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
