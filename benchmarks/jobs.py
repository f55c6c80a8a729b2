"""Measures the memory and time of jobs with few and with many pictures, each in a fresh process:

    python -m benchmarks.jobs [--pictures 10 1000 10000] [--side 16] [--lines 1000000]

The pictures are tiny (BMP) and the network is left out: a restorer that returns the picture stands in its place, so that what is measured
is the job's own work: the list, reading, writing (each output and record is flushed to the disk), the records, the report. The peak is that
of the resident memory of the process that does one of these three. --lines: only the list, of that many paths in a text file.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.network import processor
from gpen_core.pictures import from_array, write_picture

WHATS = ("list", "work", "report")
CHILD = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from gpen_core.batch.job import JobFolder
from gpen_core.batch.listing import inputs_of
from gpen_core.batch.report import write_report
from gpen_core.batch.shards import restoring, run_shards
what, root = sys.argv[1], Path(sys.argv[2])
folder, out = JobFolder(root / "job"), root / "out"
flags = {"overwrite": False, "skip_existing": False, "video_on_card": False}
settings = {"out": str(out), "faces_dir": None, "quality": 95, "crf": 18, **flags}
record = {"box": [1, 1, 9, 9], "landmarks": [[1, 1]] * 5, "score": 0.9, "status": "restored"}
face = SimpleNamespace(to_json=lambda: record, status="restored", index=0)
crop = np.zeros((8, 8, 3), np.float32)
class Restorer:
    options = SimpleNamespace(device="cpu", aligned=False, output_size="keep")
    def prepare(self): pass
    def __call__(self, picture, faces=None):
        return SimpleNamespace(image=picture, faces=[face], crops=[crop], restored=[crop], scale=1.0)
if what == "lines":
    folder.make_list(inputs_of([], [root / "list.txt"], out), settings, "0" * 64)
elif what == "list":
    folder.make_list(inputs_of([root / "in"], [], out), settings, "0" * 64)
elif what == "work":
    manifest = folder.manifest()
    run_shards(folder, manifest, range(manifest.shards), restoring(Restorer(), manifest.settings))
elif what == "report":
    write_report(folder, folder.manifest())
try:
    # Not ru_maxrss on Linux: it begins with what the process had that started this one.
    with open("/proc/self/status") as lines:
        peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
except OSError:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(peak)
"""


def make_pictures(folder: Path, count: int, side: int) -> None:
    """`count` pictures, a thousand to a folder."""
    pixels = np.random.default_rng(1).integers(0, 255, (side, side, 3), np.uint8)
    first = write_picture(from_array(pixels), folder.parent / "picture.bmp")
    data = first.read_bytes()
    for number in range(count):
        path = folder / f"{number // 1000:05}" / f"{number:08}.bmp"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(data)


def measured(what: str, folder: Path) -> tuple[float, int]:
    """(seconds, peak memory in bytes) of one part in a fresh process."""
    started = time.perf_counter()
    command = [sys.executable, "-c", CHILD, what, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8", env={**os.environ, "OMP_NUM_THREADS": "1"})  # noqa: S603
    return time.perf_counter() - started, int(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the memory and time of jobs with few and with many pictures.")
    parser.add_argument("--pictures", type=int, nargs="+", default=[10, 1000, 10000])
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--lines", type=int, nargs="*", default=[])
    arguments = parser.parse_args()
    print(f"{processor()}, Python {platform.python_version()}, {platform.system()}\n")
    for count in arguments.lines:
        with tempfile.TemporaryDirectory() as name:
            with (Path(name) / "list.txt").open("w", encoding="utf-8") as file:
                file.writelines(f"/archive/{number * 7919 % count // 1000:06}/{number:08}.jpg\n" for number in range(count))
            seconds, peak = measured("lines", Path(name))
            print(f"{count:,} lines: {seconds:.0f} s, peak {peak / 2**20:.0f} MiB", flush=True)
    heads = "".join(f" {what}, s | {what}, peak MiB |" for what in WHATS)
    print(f"| pictures |{heads} job's folder, MB |\n|---|{'---|' * (2 * len(WHATS) + 1)}", flush=True)
    for count in arguments.pictures:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_pictures(folder / "in", count, arguments.side)
            cells = "".join(f" {seconds:.1f} | {peak / 2**20:.0f} |" for seconds, peak in (measured(what, folder) for what in WHATS))
            size = sum(path.stat().st_size for path in (folder / "job").rglob("*") if path.is_file())
            print(f"| {count:,} |{cells} {size / 1e6:.1f} |", flush=True)


if __name__ == "__main__":
    main()
