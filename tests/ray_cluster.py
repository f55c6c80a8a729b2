"""Starts a Ray cluster of two nodes on this machine, kills one in the middle of a job, and checks the job:

    python tests/ray_cluster.py [--pictures 600]

It needs Ray (pip install ray), and prints a short log. The restorer is a stand-in that takes 20 ms.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
# The nodes' processes find the project and this file there.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT / "tests"), str(ROOT), os.environ.get("PYTHONPATH"))))

from job_kills import Figures, check, make_pictures  # noqa: E402
from job_worker import SlowRestorer, opened  # noqa: E402

from gpen_core.batch.job import JobFolder, Manifest  # noqa: E402
from gpen_core.batch.ray import run_on_ray  # noqa: E402
from gpen_core.batch.shards import Work, restoring  # noqa: E402


def slow_work(manifest: Manifest, given: float) -> Work:
    return restoring(SlowRestorer(given), manifest.settings)


def main() -> int:
    parser = argparse.ArgumentParser(description="Kills a node of a Ray cluster in the middle of a job.")
    parser.add_argument("--pictures", type=int, default=600)
    pictures = parser.parse_args().pictures
    import ray
    from ray.cluster_utils import Cluster

    started = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - started:6.1f} s  {text}", flush=True)

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    say(f"Ray {ray.__version__}: a cluster of two nodes, one core each, at {cluster.address}")
    try:
        with tempfile.TemporaryDirectory() as name:
            source, out, folder = Path(name) / "in", Path(name) / "out", JobFolder(Path(name) / "job")
            make_pictures(source, pictures)
            manifest = opened(folder, source, out)
            done: list[int] = []
            killing: list[threading.Thread] = []

            def finished(told: dict) -> None:
                done.append(told["count"])
                if sum(done) >= pictures // 4 and not killing:
                    say(f"{sum(done)} of {pictures} done: the second node is killed")
                    killing.append(threading.Thread(target=cluster.remove_node, args=(second,), kwargs={"allow_graceful": False}))
                    killing[0].start()

            lost: list[str] = []

            def warn(text: str) -> None:
                lost.append(text)
                say(text[:140])

            make = "ray_cluster:slow_work"
            run_on_ray(folder, range(manifest.shards), address=cluster.address, make=make, given=0.02, finished=finished, warn=warn)
            killing[0].join()
            figures = Figures()
            check(figures, folder, source, out)
            say(f"{sum(done)} records came back, {pictures - sum(done)} are of the lost node; its shard went on elsewhere")
            say(f"lost: {figures.lost}, doubled: {figures.doubled}, broken: {figures.broken}")
            return 1 if figures.lost or figures.doubled or figures.broken or not lost else 0
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main())
