"""Works on a job in a process of its own, with a restorer that takes milliseconds, so that tests can kill it:

    python tests/job_worker.py JOB IN OUT [SECONDS]

SECONDS: what a picture takes. It prints "begun" when the list is made and "done" at the end.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from stub_restorer import StubRestorer  # noqa: E402

from gpen_core.batch.job import JobFolder, Manifest  # noqa: E402
from gpen_core.batch.listing import inputs_of  # noqa: E402
from gpen_core.batch.shards import restoring, run_shards  # noqa: E402

WEIGHTS = "ab" * 32
SHARD = 20


class SlowRestorer(StubRestorer):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def __call__(self, picture, *, faces=None):
        time.sleep(self.seconds)
        return super().__call__(picture, faces=faces)


def settings_for(out: Path, **more: object) -> dict[str, object]:
    plain = {"faces_dir": None, "overwrite": False, "skip_existing": False, "quality": 95, "crf": 18, "video_on_card": False}
    return {"out": str(out), **plain, **more}


def opened(folder: JobFolder, source: Path, out: Path, shard_size: int = SHARD, **more: object) -> Manifest:
    """The job's manifest; its list is made if there is none."""
    with folder.lock():
        manifest = folder.manifest()
        return manifest or folder.make_list(inputs_of([source], [], out), settings_for(out, **more), WEIGHTS, shard_size=shard_size)


def main() -> None:
    folder, source, out = JobFolder(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
    restorer = SlowRestorer(float(sys.argv[4]) if len(sys.argv) > 4 else 0)
    manifest = opened(folder, source, out)
    print("begun", flush=True)
    run_shards(folder, manifest, range(manifest.shards), restoring(restorer, manifest.settings))
    print("done", flush=True)


if __name__ == "__main__":
    main()
