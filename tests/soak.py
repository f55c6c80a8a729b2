"""Long trials that the usual run leaves out:

    python -m tests.soak jobs [--kills 50] [--workers 1] [--pictures 600] [--seed 1]

jobs: kills the processes of a job at random moments (while Python starts, while the list is made, most often at work), runs it again
until it is done, and prints what was lost, doubled and repeated.
Exit code 1 if anything was, except one picture repeated a process and kill.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from job_kills import killed_until_done  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description="Long trials that the usual run leaves out.")
    parser.add_argument("what", choices=["jobs"])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        figures = killed_until_done(
            Path(folder), arguments.pictures, arguments.kills, workers=arguments.workers, seconds=0.005, seed=arguments.seed
        )
    print(f"Python {platform.python_version()}, {platform.system()}; {time.perf_counter() - started:.0f} s")
    print(
        "| pictures | processes | kills | processes killed | lost | doubled | broken | repeated in all | repeated after one kill, at most |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    most, repeated = max(figures.repeated), sum(figures.repeated)
    print(
        f"| {arguments.pictures} | {arguments.workers} | {arguments.kills} | {figures.kills} | {figures.lost} | {figures.doubled} "
        f"| {figures.broken} | {repeated} | {most} |"
    )
    return 1 if figures.lost or figures.doubled or figures.broken or most > arguments.workers else 0


if __name__ == "__main__":
    sys.exit(main())
