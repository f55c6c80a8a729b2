"""The same tests and the same pictures with the oldest, middle and newest packages. By hand: an environment takes minutes and, on Linux,
up to 6 GB, because torch's wheels there bring CUDA's libraries.

    python -m tests.matrix FOLDER                       every environment that can be had here, made in FOLDER and kept there
    python -m tests.matrix FOLDER oldest newest         some of them
    python -m tests.matrix FOLDER --have NAME=PYTHON    and one that is there already, such as .venv/bin/python
    python -m tests.matrix FOLDER --torch-index URL     torch from another index (pytorch.org shows the one for the CPU): far smaller
    python -m tests.matrix FOLDER --measure             only versions and deviations, no tests
    python -m tests.matrix FOLDER oldest tested-3.13 --record    and writes tests/matrix/oldest.json: what the oldest packages lack

Interpreters are looked for as tests/pythons.py says. Prints two tables in Markdown. Exit code 1 if a test failed, something is left out or
a deviation is too large.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from pythons import interpreter  # noqa: E402

from tests.matrix import install, report  # noqa: E402
from tests.matrix.environments import ENVIRONMENTS  # noqa: E402

TESTS = (
    *("network", "fused", "embedded_weights", "align", "mask", "paste", "tone", "restorer", "restorer_loading", "frames_together"),
    *("steps_exact", "options_rules", "options_core", "picture", "picture_files", "picture_frames", "picture_metadata"),
    *("weights_checkpoint", "weights_files", "weights_onnx", "faces_detectors", "faces_find", "faces_retinaface", "cli", "cli_real"),
    *("jobs_identity", "jobs_listing", "video", "runtime", "tiles_memory"),
)
# Grey levels. Of the network from the official results; of a pixel between environments, and between numbers of threads: OpenCV 4 turns
# pictures in steps of 1/32 pixel, so the last digit of a landmark can move an edge by one step.
GOLDEN, PIXEL = 2e-5 * 127.5, 3.0


def main() -> int:
    given = arguments()
    folder: Path = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    install.gently()
    pythons = {**made(folder, given.environments, given.torch_index), **given.have}
    measured, tests = dict[str, report.Measured](), dict[str, report.Tests]()
    for name, python in pythons.items():
        say(f"{name}: measuring ...")
        if run(python, "-m", "tests.matrix.measure", str(folder / f"{name}.npz")):
            say(f"{name}: could not be measured")
            continue
        measured[name] = report.read(folder / f"{name}.npz")
        if not given.measure:
            say(f"{name}: testing ...")
            tests[name] = tested(python, folder / f"{name}.xml")
            for failed in tests[name].failed:
                say(f"{name}: failed: {failed}")
    if not measured:
        return 1
    reference = next((name for name in reversed(measured) if name.startswith("tested")), next(reversed(measured)))
    tables = [*report.versions(measured, tests), "", f"Pictures against {reference}:", "", *report.deviations(measured, reference)]
    say("\n".join(["", *tables]))
    if given.record and "oldest" in measured:
        record(pythons)
    far = report.widest(measured, reference) > PIXEL or any(too_far(one.figures) for one in measured.values())
    left_out = len(measured) < len(given.environments) + len(given.have)
    return int(far or left_out or any(one.failed for one in tests.values()))


def arguments() -> argparse.Namespace:
    names = [environment.name for environment in ENVIRONMENTS]
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("environments", nargs="*", metavar="NAME", help=f"{', '.join(names)} (default: all, or only those of --have)")
    parser.add_argument("--have", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--torch-index", default="", metavar="URL")
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    if unknown := set(given.environments) - set(names):
        parser.error(f"there is no environment {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    given.have = {name: Path(python).absolute() for name, _, python in (one.partition("=") for one in given.have)}
    given.environments = given.environments or ([] if given.have else names)
    return given


def made(folder: Path, names: list[str], torch_index: str) -> dict[str, Path]:
    """The interpreters of the environments that can be had."""
    pythons = {}
    for environment in ENVIRONMENTS:
        if environment.name not in names:
            continue
        found = interpreter(environment.python)
        if found is None:
            say(f"{environment.name}: left out: no Python {environment.python} was found; name it in GPEN_PYTHONS")
            continue
        say(f"{environment.name}: installing ...")
        try:
            pythons[environment.name] = install.make(environment, found, folder / environment.name, torch_index)
        except install.NotHere as error:
            say(f"{environment.name}: left out: {error}")
    return pythons


def tested(python: Path, result: Path) -> report.Tests:
    files = [str(ROOT / "tests" / f"test_{name}.py") for name in TESTS]
    result.unlink(missing_ok=True)
    code = run(python, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "--tb=line", f"--junitxml={result}", *files)
    if not result.is_file():
        return report.Tests(0, 0, (f"pytest ended with {code} and told nothing",))
    cases = list(ET.parse(result).iter("testcase"))  # our own file
    wrong = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    bad = tuple(f"{case.get('classname')}::{case.get('name')}" for case in wrong)
    skipped = sum(case.find("skipped") is not None for case in cases)
    return report.Tests(len(cases) - skipped - len(bad), skipped, bad)


def too_far(figures: Mapping[str, float]) -> bool:
    networks = any(value > GOLDEN for name, value in figures.items() if name.startswith("golden") and "network" in name)
    return networks or any(value > PIXEL for name, value in figures.items() if name.startswith("same"))


def record(pythons: Mapping[str, Path]) -> None:
    """Writes which names the code uses that the oldest packages have, and what their tensors, arrays and pictures cannot do yet."""
    old, new = (json.loads(asked(pythons[name])) for name in ("oldest", next(reversed(pythons))))
    from tests.matrix import names

    used = names.used(names.PACKAGES)
    oldest = next(environment for environment in ENVIRONMENTS if environment.name == "oldest")
    content = {
        "packages": dict(oldest.packages),
        "there": sorted(set(used) - set(old["absent"])),
        "absent": {name: used[name] for name in sorted(old["absent"])},
        "newer": sorted(set(new["abilities"]) - set(old["abilities"])),
    }
    names.RECORD.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def asked(python: Path) -> str:
    command = [str(python), "-m", "tests.matrix.names"]
    return subprocess.run(command, cwd=ROOT, env=install.surroundings(), stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout


def run(python: Path, *command: str) -> int:
    return subprocess.run([str(python), *command], cwd=ROOT, env=install.surroundings(), check=False).returncode


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
