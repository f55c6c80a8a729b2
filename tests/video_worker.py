"""Restores a video in a process of its own, with a restorer that takes milliseconds, so that tests can kill it:

    python tests/video_worker.py IN OUT SEGMENT SECONDS

SEGMENT: frames that are kept together. SECONDS: what a frame takes. It prints "begun" after the first frame and "done" at the end.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from stub_restorer import StubRestorer  # noqa: E402

from gpen_core.progress import Progress  # noqa: E402
from gpen_core.video import parts  # noqa: E402
from gpen_core.video.restore import restore_video  # noqa: E402


class Slow(StubRestorer):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def __call__(self, picture, *, faces=None):
        time.sleep(self.seconds)
        return super().__call__(picture, faces=faces)


class Begun(Progress):
    begun = False

    def report(self, done, total, what, preview=None):
        if not self.begun:
            print("begun", flush=True)
        self.begun = True


def main() -> None:
    parts.SEGMENT = int(sys.argv[3])
    restorer = Slow(float(sys.argv[4]))
    restore_video(sys.argv[1], sys.argv[2], restorer, crf=0, resume=True, progress=Begun())
    print(f"done {restorer.calls}", flush=True)


if __name__ == "__main__":
    main()
