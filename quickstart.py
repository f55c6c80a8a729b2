"""Two commands for a bare machine with Python 3.10 to 3.14:

    python quickstart.py            makes .venv, installs what a restoration needs, restores examples/portrait.png
    python quickstart.py PICTURE    the same with your own picture
    python quickstart.py --page     opens a page in the browser to try everything; arguments after -- go to `gpen_core page`
    python quickstart.py --test     installs the test tools as well, checks style and types, runs all tests

Needs nothing but Python itself. A second run installs nothing. See docs/dependencies.md for what is installed and why.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "quickstart.json"  # what is installed; says "unfinished" while .venv is being made
REQUIREMENTS = ROOT / "requirements.txt"
CONSTRAINTS = ROOT / "constraints.txt"
EXAMPLE = ROOT / "examples" / "portrait.png"
OUT = ROOT / "out"
MODEL = "GPEN-BFR-256-lite"  # its weights are part of the project: no download
OLDEST, NEWEST = (3, 10), (3, 14)
OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")  # one folder, four names
PAGE = ("gradio>=6", "av")  # of `--page` only: about 40 packages
# One feature each, installed by `--full`; everything else works without them. The extras in pyproject.toml match.
OPTIONAL = {"facexlib": "facexlib>=0.3.0", "spandrel": "spandrel>=0.1.6", "av": "av"}
TEST_TOOLS = (
    "pytest", "hypothesis", "ruff", "pyright[nodejs]", "onnx", "onnxscript", "scikit-image", "pyyaml", "av", "fastapi", "httpx",
    "setuptools",
)  # fmt: skip
IMPORTS = ("torch", "numpy", "cv2", "PIL", "safetensors", "tqdm", "filelock")


class Trouble(Exception):
    """A problem the user has to solve; the text says how."""


def version_trouble(version: Sequence[int]) -> str | None:
    """Explains why this Python cannot be used; None if it can. version: sys.version_info or the like."""
    if OLDEST <= tuple(version[:2]) <= NEWEST:
        return None
    again = "py -3.12 quickstart.py" if os.name == "nt" else "python3.12 quickstart.py"
    return (
        f"This project runs on Python 3.{OLDEST[1]} to 3.{NEWEST[1]}; this is Python {version[0]}.{version[1]}. "
        f"Install one of those and start again with it, for example: {again}"
    )


def requirement_lines(text: str) -> list[str]:
    """The requirements in a requirements file, one per line, without comments and options."""
    lines = (line.split(" #")[0].strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith(("#", "-"))]


def name_of(requirement: str) -> str:
    """The package's name: 'Basic_SR[x]>=1; python_version < "3.13"' -> 'basic-sr'."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", match.group()).lower() if match else ""


def stamp_key(groups: Iterable[str], version: Sequence[int], index: str = "") -> str:
    """A text that changes whenever something has to be installed."""
    digest = hashlib.sha256(f"{tuple(version[:2])} {sorted(groups)} {index}".encode())
    for path in (REQUIREMENTS, CONSTRAINTS, Path(__file__)):
        digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()


def venv_python() -> Path:
    """The environment's interpreter."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def pip_install(
    packages: Iterable[str], constraints: Path | None = CONSTRAINTS, options: Iterable[str] = (), quiet: bool = False
) -> list[str]:
    """The command that installs packages into the environment."""
    command = [str(venv_python()), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    return [*command, *(["-qq"] if quiet else []), *(["-c", str(constraints)] if constraints else []), *options, *packages]


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables for child processes: nothing that points Python or pip elsewhere, and UTF-8 everywhere."""
    away = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "__PYVENV_LAUNCHER__")
    kept = {name: value for name, value in environment.items() if name not in away}
    return {**kept, "PYTHONUTF8": "1", "PYTHONNOUSERSITE": "1"}


def say(text: str) -> None:
    """Prints a line for the user immediately, whatever characters the console supports."""
    encoding = sys.stdout.encoding or "ascii"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def child(command: list[str], *, stdout: int | None = None, stderr: int | None = None, given: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the command in this folder and waits for it. given: its standard input."""
    environment = clean_environment(os.environ)
    return subprocess.run(
        command, cwd=ROOT, env=environment, input=given, stdout=stdout, stderr=stderr, encoding="utf-8", errors="replace", check=False
    )


def run(command: list[str]) -> int:
    """Runs the command. Returns its exit code."""
    return child(command).returncode


def output_of(command: list[str]) -> tuple[int, str]:
    """Runs the command. Returns (exit code, its output, errors included)."""
    done = child(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def last_line(text: str, of: str = "ERROR") -> str:
    """The last line that is not blank, preferably one that contains `of`."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if of in line), lines[-1] if lines else "it printed nothing")


def pip(packages: Iterable[str], **how: Any) -> str:
    """Installs packages. Returns '' on success, otherwise pip's error message."""
    quiet = not sys.stdout.isatty()  # a terminal shows pip's own progress bars
    done = child(pip_install(packages, quiet=quiet, **how), stdout=subprocess.PIPE if quiet else None, stderr=subprocess.PIPE)
    return (done.stderr or done.stdout or "pip said nothing") if done.returncode else ""


@contextlib.contextmanager
def only_one() -> Generator[None, None, None]:
    """Lets one quickstart run at a time, because two would corrupt each other's .venv. The second waits."""
    OUT.mkdir(exist_ok=True)
    with (OUT / ".quickstart.lock").open("a+b") as file:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            how = msvcrt.LK_NBLCK
            while True:
                with contextlib.suppress(OSError):  # LK_LOCK raises it after ten seconds
                    msvcrt.locking(file.fileno(), how, 1)
                    break
                say("Another quickstart is running here; waiting for it ...")
                how = msvcrt.LK_LOCK
        else:
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                say("Another quickstart is running here; waiting for it ...")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file releases the lock


def read_stamp() -> dict[str, Any]:
    """Reads the stamp. Returns {} if there is none."""
    try:
        found: Any = json.loads(STAMP.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def write_stamp(content: dict[str, Any]) -> None:
    """Replaces the stamp in one step, so an interrupted run leaves the old one."""
    part = STAMP.with_name(STAMP.name + ".part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.replace(STAMP)


def runs(python: Path) -> bool:
    """Whether this interpreter starts and has our version (the Python it was made from may be gone or replaced)."""
    if not python.is_file():
        return False
    try:
        code, text = output_of([str(python), "-c", "import sys; print(*sys.version_info[:2])"])
    except OSError:
        return False
    return code == 0 and text.split()[-2:] == [str(number) for number in sys.version_info[:2]]


def make_venv() -> None:
    """Makes a new .venv. Deletes our own old one if it is unfinished or does not run; never deletes anyone else's."""
    ours = "{}.{}".format(*sys.version_info[:2])
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        raise Trouble(f"This Python has no venv. On Debian and Ubuntu: sudo apt install python{ours}-venv; then start again.")
    if VENV.exists():
        if Path(sys.prefix).resolve() == VENV.resolve():
            raise Trouble(f"The environment {VENV} must be recreated, but it is in use: type deactivate, then start again.")
        if not read_stamp():
            raise Trouble(f"{VENV} was not made by quickstart and has no Python {ours}. Move it away, then start again.")
        shutil.rmtree(VENV)
    say(f"Making the environment {VENV} ...")
    VENV.mkdir()
    write_stamp({"unfinished": True})
    code, text = output_of([sys.executable, "-m", "venv", str(VENV)])
    if code:
        raise Trouble(f"The environment could not be made: {last_line(text, 'Error')}")


def has_nvidia() -> bool:
    """Whether this machine has an NVIDIA GPU with its driver."""
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()


def install_torch(requirement: str, index: str) -> None:
    """Installs the build of torch that suits this machine."""
    say("Installing torch (the largest part; this can take some minutes) ...")
    if index:
        if error := pip([requirement], options=["--index-url", index]):
            raise Trouble(f"torch could not be installed from {index}: {last_line(error)}")
        return
    if sys.platform == "linux" and platform.machine() == "x86_64" and not has_nvidia():
        # Plain `torch` brings several GB of CUDA libraries that nothing here would use.
        tested = re.search(r"^torch==([0-9.]+)", CONSTRAINTS.read_text("utf-8"), re.MULTILINE)
        if tested and not pip([f"torch=={tested.group(1)}+cpu"]):
            return
        say("Your package index has no CPU build, so the larger build for NVIDIA GPUs will be installed: about 3 GB.")
        say("(Faster: Ctrl-C, then `python quickstart.py --torch-index URL` with the CPU address that pytorch.org shows.)")
    if os.name == "nt" and has_nvidia():
        say("This is torch for the CPU. For your NVIDIA GPU: `python quickstart.py --torch-index URL` (address: see pytorch.org).")
    install_tested("torch", [requirement])


def install_tested(what: str, packages: Iterable[str], options: Sequence[str] = (), tested: Path | None = CONSTRAINTS) -> None:
    """Installs the tested versions, or the newest where those are not available for this machine. Raises Trouble with pip's error."""
    error = pip(packages, constraints=tested, options=options)
    if tested and ("No matching distribution" in error or "ResolutionImpossible" in error):
        say("The tested versions are not available here (another system, or no network); trying the newest ones.")
        error = pip(packages, constraints=None, options=options)
    if error:
        raise Trouble(f"{what} could not be installed: {last_line(error)}\nCheck the network and the disk space, then start again.")


def install_opencv() -> None:
    """Installs the build that needs no desktop, unless one of the four already works: two at once would break each other."""
    code, _ = output_of([str(venv_python()), "-c", "import cv2; cv2.resize"])
    if code == 0:
        return
    output_of([str(venv_python()), "-m", "pip", "uninstall", "-y", "-q", *OPENCV])  # a broken one; .venv is ours
    install_tested(OPENCV[0], [f"{OPENCV[0]}>=4.8"], options=["--no-deps"])


def check_imports() -> None:
    """Checks that everything can be imported. Raises Trouble with the reason."""
    code, text = output_of([str(venv_python()), "-c", "import " + ", ".join(IMPORTS)])
    if code:
        hint = " Install the Microsoft Visual C++ Redistributable, then start again." if os.name == "nt" and "DLL" in text else ""
        raise Trouble(f"What was installed cannot be imported: {last_line(text, 'Error')}.{hint}")


def install_optional() -> None:
    """Installs the optional packages. One that fails is reported, not an error."""
    for name, requirement in OPTIONAL.items():
        say(f"Installing {name} (optional) ...")
        # facexlib's dependencies bring a second OpenCV and numba; the parts used here need only torchvision.
        alone = name == "facexlib"
        error = pip([requirement], options=["--no-deps"] if alone else []) or (pip(["torchvision"]) if alone else "")
        if error:
            say(f"  {name} could not be installed; everything else works without it. ({last_line(error)})")
    code, text = output_of([str(venv_python()), "-c", "import torchvision"])
    if code and "No module" not in last_line(text):
        say("  torchvision does not fit this build of torch: facexlib's detector and Real-ESRGAN are not available; everything else works.")


def install(wanted: Iterable[str], index: str) -> None:
    """Installs what the groups need into .venv; does nothing if it is already there."""
    stamp = read_stamp()
    groups = set(wanted) | set(stamp.get("groups", ()))  # a plain run after --test removes nothing
    index = index or stamp.get("index", "")
    key = stamp_key(groups, sys.version_info[:2], index)
    good = runs(venv_python())
    if good and stamp.get("key") == key:
        return
    if stamp.get("unfinished") or not good:
        make_venv()
        stamp = {"unfinished": True}
    write_stamp({"unfinished": True, "groups": sorted(groups), "index": index})
    try:
        others = requirement_lines(REQUIREMENTS.read_text("utf-8"))
        torch = next(line for line in others if name_of(line) == "torch")
        others.remove(torch)
        install_torch(torch, index)  # before packages that depend on it, which would install another build
        others += TEST_TOOLS if "test" in groups else ()
        say(f"Installing {', '.join(name_of(line) for line in others)} ...")
        install_tested("The rest", others)
        install_opencv()
        if "full" in groups:
            install_optional()
        if "page" in groups:
            say("Installing gradio and av ...")
            install_tested("gradio", PAGE, tested=None)  # it takes a Pillow older than the tested one
        check_imports()
    except Trouble:
        write_stamp(stamp)  # a complete environment whose update failed is kept
        raise
    write_stamp({"key": key, "groups": sorted(groups), "index": index})


def restore_command(picture: Path, target: Path) -> list[str]:
    """The command line that restores picture into target."""
    what = ["restore", str(picture), "-o", str(target), "--model", MODEL, "--output-size", "native", "--overwrite", "--json"]
    return [str(venv_python()), "-m", "gpen_core", *what]


def restore(picture: Path) -> int:
    """Restores picture, draws the before/after sheet and prints both paths. Returns the exit code."""
    if not picture.is_file():
        raise Trouble(f"There is no picture {picture}.")
    target = OUT / (picture.stem + ".png")
    sheet = OUT / (picture.stem + "-before-after.png")
    say(f"Restoring {picture} with {MODEL} ...")
    done = child(restore_command(picture, target), stdout=subprocess.PIPE)
    if done.returncode:
        return done.returncode
    command = [str(venv_python()), str(ROOT / "examples" / "sheet.py"), str(picture), str(target), str(sheet)]
    if drawn := child(command, given=done.stdout).returncode:
        return drawn
    say(f"\nRestored:     {target}\nBefore/after: {sheet}")
    return 0


def check_style(python: str) -> tuple[int, str]:
    """Checks the style. Returns (exit code, what was found)."""
    say("Checking style (ruff) ...")
    return output_of([python, "-m", "ruff", "check", "."])


def check_types(python: str) -> tuple[int, str]:
    """Checks the types. Returns (exit code, what was found); the code is 0 if they are right or cannot be checked."""
    if sys.version_info < (3, 11):
        return 0, "Types are not checked: NumPy for this Python types its arrays differently. Use Python 3.11 or later."
    say("Checking types (pyright) ...")
    # NumPy's stubs match the Python they are installed in.
    return output_of([python, "-m", "pyright", "--pythonpath", python, "--pythonversion", "{}.{}".format(*sys.version_info[:2])])


def test(pytest_arguments: list[str]) -> int:
    """Checks style and types, then runs the tests. Returns 0 only if all three pass; pytest's output comes last, or what else failed."""
    python = str(venv_python())
    failed: list[str] = []
    for what, check in (("Style", check_style), ("Types", check_types)):
        code, found = check(python)
        say(found.rstrip())
        if code:
            failed.append(f"{what} failed, whatever the tests say:\n{found.rstrip()}")
    say("Running the tests ...")
    code = run([python, "-m", "pytest", *pytest_arguments])
    for text in failed:  # again, because nobody looks above thousands of tests
        say(text)
    return code or int(bool(failed))


def main(arguments: list[str] | None = None) -> int:
    """Sets up .venv, then restores a picture or runs the tests. Returns the exit code."""
    if trouble := version_trouble(sys.version_info[:2]):
        say(trouble)
        return 2
    parser = argparse.ArgumentParser(description="Sets everything up in .venv, then restores a picture or runs the tests.")
    parser.add_argument("picture", nargs="?", type=Path, help="the picture to restore (default: examples/portrait.png)")
    parser.add_argument("--test", action="store_true", help="check style and types, then run all tests; arguments after -- go to pytest")
    parser.add_argument("--page", action="store_true", help="open the page in the browser; arguments after -- go to it")
    parser.add_argument("--full", action="store_true", help="install the optional packages too: " + ", ".join(OPTIONAL))
    parser.add_argument("--torch-index", default="", metavar="URL", help="the package index to install torch from (see pytorch.org)")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    asked = parser.parse_args(arguments[:cut])
    groups = [name for name, wanted in (("test", asked.test), ("full", asked.full), ("page", asked.page)) if wanted]
    try:
        with only_one():
            install(groups, asked.torch_index)
        if asked.test:
            return test(arguments[cut + 1 :])
        if asked.page:
            return run([str(venv_python()), "-m", "gpen_core", "page", *arguments[cut + 1 :]])
        return restore((asked.picture or EXAMPLE).absolute())
    except (Trouble, OSError) as error:
        say(str(error) if isinstance(error, Trouble) else f"Failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("Stopped. Start again at any time: finished steps are kept.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
