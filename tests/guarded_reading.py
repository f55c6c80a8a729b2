"""Reads the weight files of a folder while it notes all that Python does meanwhile; run as a program, because such a watch never ends.

    python tests/guarded_reading.py FOLDER

Prints one JSON line for each file: name, what every reader said, what was done that reading does not need, seconds, and how much the peak
of memory grew so far, in MiB.
"""

from __future__ import annotations

import codecs
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

# What must not happen while a file is read. Nor may anything be imported: what the readers need is imported before.
FORBIDDEN = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "os.remove", "os.rename", "os.rmdir",
    "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.truncate", "shutil.", "ctypes.", "urllib.", "http.", "webbrowser.", "pty.",
    "pickle.find_class", "marshal.", "code.__new__", "exec", "import", "tempfile.", "glob.", "os.listdir", "os.scandir",
)  # fmt: skip


def peak() -> int:
    """The largest memory so far, in MiB; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size >> 20 if sys.platform == "darwin" else size >> 10


def main() -> None:
    import torch

    from gpen_core.errors import WeightsError
    from gpen_core.weights import checkpoint, files

    torch.zeros(2).numpy()
    for name in ("cp437", "raw_unicode_escape", "unicode_escape", "latin-1", "utf-16"):  # of names in zip files, and of texts in pickles
        codecs.lookup(name)
    readers = (checkpoint.read_shapes, checkpoint.read_state_dict, checkpoint.read_generator, checkpoint.read_template, files.identify)
    folder = Path(sys.argv[1]).resolve()
    for path in sorted(folder.glob("warm-up*")):  # good files: what is imported late is imported now
        for read in readers:
            read(path)
    noted: list[str] = []
    watched: list[Path] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if not watched:
            return
        if event == "open":
            name, mode = arguments[0], str(arguments[1] or "r")
            ours = not isinstance(name, int) and Path(os.fsdecode(name)).resolve()
            if not ours or "w" in mode or not (ours == watched[0] or ours.is_relative_to(Path(files.__file__).parent)):  # the catalogue
                noted.append(f"open {name!r}")
        elif event.startswith(FORBIDDEN):
            noted.append(f"{event} {arguments[0] if arguments else ''!r}"[:200])

    sys.addaudithook(watch)
    start = peak()
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("warm-up"))
    for path in paths:
        said: list[str] = []
        began = time.perf_counter()
        watched.append(path)
        for read in readers:
            try:
                read(path)
                said.append("")
            except WeightsError as error:
                said.append(str(error))
            except BaseException as error:
                said.append(f"!{type(error).__name__}: {error}")
        watched.clear()
        seconds = time.perf_counter() - began
        print(json.dumps({"name": path.name, "said": said, "did": noted, "seconds": seconds, "memory": peak() - start}), flush=True)
        noted.clear()


if __name__ == "__main__":
    main()
