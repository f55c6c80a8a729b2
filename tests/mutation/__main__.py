"""Mutation testing: changes the code in many small ways and runs the tests that reach each change.

    python -m tests.mutation                                  every file of FILES, 40 mutants of each
    python -m tests.mutation gpen_core/steps/mask.py --all    every mutant of one file
    python -m tests.mutation --options                        every place that reads a setting reads its default instead

Prints a table and every survivor. Takes a second or two per mutant; writes nothing into the tree.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .operators import Mutant, mutants, option_cuts
from .running import ROOT, noticed, processes, reached

FILES = (
    "gpen_core/restore/restorer.py", "gpen_core/restore/compose.py", "gpen_core/restore/pieces.py", "gpen_core/steps/paste.py",
    "gpen_core/steps/mask.py", "gpen_core/steps/tone.py", "gpen_core/steps/align.py", "gpen_core/faces/select.py",
    "gpen_core/options.py", "gpen_core/runtime.py",
)  # fmt: skip
TESTS = (
    "align", "aligned", "background", "cli", "detail", "faces_select", "faces_together", "mask", "options_core",
    "options_doors", "options_rules", "paste", "pieces", "pieces_exact", "restorer", "restorer_loading", "runtime", "steps_exact", "stop",
    "tone",
)  # fmt: skip
SLOWEST = 3.0  # seconds: slower tests are left out


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="*", help=f"modules to change (default: {', '.join(FILES)})")
    parser.add_argument("--tests", nargs="+", help="test files to run (default: those of TESTS)")
    parser.add_argument("--sample", type=int, default=40, metavar="N", help="random mutants of each file (default: 40)")
    parser.add_argument("--all", action="store_true", help="every mutant of each file")
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample (default: 1)")
    parser.add_argument("--options", action="store_true", help="instead, cut off settings at each place that reads one, in turn")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
    restore = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "gpen_core" / "restore").glob("*.py"))]
    files = [ROOT / Path(name) for name in given.files or (restore if given.options else FILES)]
    tests = given.tests or [str(path) for name in TESTS if (path := ROOT / "tests" / f"test_{name}.py").is_file()]
    context = processes()
    lines, seconds, failed = reached(context, files, tests)
    if failed:
        print("these tests already fail:", *failed, sep="\n  ")
        return 1
    quick = {test for test, took in seconds.items() if took <= SLOWEST}
    print(f"{len(quick)} tests, {len(seconds) - len(quick)} slower ones left out", flush=True)
    defaults = _defaults() if given.options else {}
    counts: dict[Path, list[int]] = {}
    survivors: list[str] = []
    for file in files:
        made = option_cuts(file, defaults) if given.options else mutants(file)
        chosen = made if given.all or given.options else _sample(made, given.sample, given.seed)
        killed = 0
        for mutant in chosen:
            covering = sorted(_covering(mutant, lines) & quick, key=lambda test: seconds[test])
            dead = bool(covering) and noticed(context, mutant, covering, sum(seconds[test] for test in covering))
            killed += dead
            line = f"{mutant.file.relative_to(ROOT).as_posix()}:{mutant.first}: {mutant.what}"
            if not dead:
                survivors.append(line if covering else f"{line} (no test comes here)")
                print(survivors[-1], file=sys.stderr, flush=True)
            if given.options:
                print("noticed " if dead else "SURVIVED", line, flush=True)
        counts[file] = [len(made), len(chosen), killed]
        print(f"{file.relative_to(ROOT).as_posix()}: {killed} of {len(chosen)} killed", file=sys.stderr, flush=True)
    _report(counts, survivors, None if given.all or given.options else given.seed)
    return 0


def _sample(made: list[Mutant], count: int, seed: int) -> list[Mutant]:
    chosen = sorted(random.Random(seed).sample(range(len(made)), min(count, len(made))))
    return [made[index] for index in chosen]


def _covering(mutant: Mutant, lines: Any) -> set[str]:
    """The tests that reach the mutant; if it takes effect at import, those that reach any line of the module."""
    file = str(mutant.file)
    if not mutant.in_function:
        return {test for (name, _), tests in lines.items() if name == file for test in tests}
    return {test for line in range(mutant.first, mutant.last + 1) for test in lines.get((file, line), ())}


def _defaults() -> dict[str, Any]:
    """Every setting's default, from a separate process: the core must not be imported here, because mutants are forked from this one."""
    code = "import json; from gpen_core.options import RestoreOptions as R; print(json.dumps({o.name: o.default for o in R.table()}))"
    return json.loads(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, encoding="utf-8").stdout)


def _report(counts: dict[Path, list[int]], survivors: Iterable[str], seed: int | None) -> None:
    rows = [(file.relative_to(ROOT).as_posix(), *count) for file, count in counts.items()]
    rows.append(("all", *(sum(column) for column in zip(*counts.values(), strict=True))))
    tried = "every mutant" if seed is None else f"drawn with seed {seed}"
    print(f"\n| file | mutants | tried ({tried}) | killed | survived | % |\n| --- | --- | --- | --- | --- | --- |")
    for name, made, chosen, killed in rows:
        print(f"| {name} | {made} | {chosen} | {killed} | {chosen - killed} | {100 * killed / max(1, chosen):.0f} |")
    print("\nSurvivors:", *survivors, sep="\n  ")


if __name__ == "__main__":
    sys.exit(main())
