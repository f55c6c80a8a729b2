"""The long tests of what README promises: hours of use, faults and hostile files in minutes. CI runs short forms of them.

    python -m tests.soak                        everything, about three quarters of an hour
    python -m tests.soak weights downloads      some of it
    python -m tests.soak jobs --kills 50 --workers 2
    python -m tests.soak fuzz --seconds 200     libFuzzer for so long on each of the three weight readers (needs: pip install atheris)

Prints a line for each, as in docs/reliability.md. Exit code 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from tests.soak import downloads, faults, fuzz, jobs, load, pictures, videos, weights  # noqa: E402 - they import the tests' own modules by name

PARTS = {
    "weights": weights.run, "fuzz": fuzz.run, "downloads": downloads.run, "pictures": pictures.run, "load": load.run, "jobs": jobs.run,
    "videos": videos.run, "faults": faults.run,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--seconds", type=int, default=200, help="how long each weight reader is fuzzed (default: 200)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments and the damage (default: 1)")
    parser.add_argument("--kills", type=int, default=50, help="of downloads, jobs and videos (default: 50)")
    parser.add_argument("--workers", type=int, default=1, help="processes of a job that is killed (default: 1)")
    parser.add_argument("--pictures", type=int, default=600, help="of that job (default: 600)")
    parser.add_argument("--frames", type=int, default=300, help="of the video that is killed (default: 300)")
    parser.add_argument("--corpus", type=Path, help="folder that keeps the fuzzer's corpus from run to run")
    given = parser.parse_args()
    unknown = set(given.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    broken = 0
    for name in given.parts or PARTS:
        started = time.perf_counter()
        for line, kept in PARTS[name](given):
            broken += not kept
            print(f"{name}: {line}{'' if kept else '  BROKEN'}", flush=True)
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
