"""The command line's output: results on stdout, everything else on stderr, progress bars only on a terminal."""

from __future__ import annotations

import errno
import json
import logging
import sys
from types import TracebackType
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ..batch.overlap import about
from ..progress import Progress

# The command line's advice for problems with the weights folder, see errors.WeightsError.elsewhere.
ELSEWHERE = "Use another folder with --models-dir, GPEN_MODELS_DIR or GPEN_EXTRA_MODELS; a mirror of Hugging Face with HF_ENDPOINT."


class Console:
    """The output of one run. quiet: only errors, no bars. debug: also tracebacks. as_json: one object on stdout and nothing else.

    As a context manager, it receives the log of gpen_core until it closes.
    """

    def __init__(self, *, quiet: bool = False, debug: bool = False, as_json: bool = False) -> None:
        self.out, self.err = sys.stdout, sys.stderr
        self.quiet, self.debug, self.as_json = quiet, debug, as_json
        self.shows_bars = not quiet and self.err.isatty()
        self.input = ""  # the input that the log lines are about
        self._handler = _Handler(self)
        self._before: tuple[int, bool] = (logging.NOTSET, True)

    def __enter__(self) -> Console:
        logger = logging.getLogger("gpen_core")
        self._before = logger.level, logger.propagate
        logger.setLevel(logging.DEBUG if self.debug else logging.ERROR if self.quiet else logging.WARNING)
        logger.propagate = False
        logger.addHandler(self._handler)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        logger = logging.getLogger("gpen_core")
        logger.removeHandler(self._handler)
        logger.level, logger.propagate = self._before

    def say(self, text: str) -> None:
        """Prints a line of results on stdout."""
        if not self.quiet and not self.as_json:
            self._write(text, self.out)

    def show_json(self, value: Any) -> None:
        """Prints the JSON object on stdout."""
        self._write(json.dumps(value, indent=1), self.out)

    def warn(self, text: str) -> None:
        """Prints a line on stderr that is not an error."""
        if not self.quiet:
            self.error(text)

    def error(self, text: str) -> None:
        """Prints an error line on stderr."""
        self._write(f"gpen: {text}", self.err)

    def raw_error(self, text: str) -> None:
        """Prints text on stderr unchanged (tracebacks)."""
        self._write(text, self.err)

    def _write(self, text: str, stream: TextIO) -> None:
        encoding = stream.encoding or "utf-8"  # a Windows code page cannot show every file name
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        try:
            if self.shows_bars:
                tqdm.write(text, file=stream)
            else:
                stream.write(text + "\n")
            stream.flush()
        except OSError as error:
            if error.errno == errno.EINVAL:  # how Windows reports a pipe whose reader has closed
                raise BrokenPipeError from error
            raise


class _Handler(logging.Handler):
    """Prints gpen_core's log on stderr, one line per record, with tracebacks if --debug is given."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._said: set[str] = set()  # messages already shown, of those shown once per run

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "once", False):
            if record.msg in self._said:
                return
            self._said.add(record.msg)
        text = " ".join(record.getMessage().split())
        name = about.get() or self._console.input  # other threads may work on other inputs than the last one started
        self._console.error(text if not name or name in text else f"{name}: {text}")
        if record.exc_info and self._console.debug:
            self._console.raw_error(logging.Formatter().formatException(record.exc_info))


class Bars:
    """Progress bars on stderr: one for the inputs (if there are several; 0: nobody knows how many), one for the steps of the current
    input. done: how many inputs an earlier run has finished.

    The Progress objects `faces` and `frames` move the second bar: `faces` for a picture, `frames` for a video.
    """

    def __init__(self, console: Console, inputs: int, done: int = 0) -> None:
        self._console = console
        self.faces: Progress = _Steps(self, "face")
        self.frames: Progress = _Steps(self, "frame")
        self._unit = "face"
        self._steps: Any = None
        self._what = ""
        self._inputs: Any = self._bar(inputs, "input", "inputs", done) if inputs != 1 else None

    def _bar(self, total: int, unit: str, text: str, done: int = 0) -> Any:
        if not self._console.shows_bars:
            return None
        more: Any = {"initial": done, "miniters": 1, "dynamic_ncols": True}
        return tqdm(total=total or None, unit=unit, desc=text, leave=False, file=self._console.err, **more)

    def begin(self, name: str, unit: str) -> None:
        """Starts a new input; its steps are counted in `unit` ("face" or "frame")."""
        self._unit = unit
        self._close_steps()
        self._console.input = name

    def end(self) -> None:
        """Marks the current input as finished."""
        self._close_steps()
        if self._inputs is not None:
            self._inputs.update()

    def inputs_at(self, count: int) -> None:
        """Shows that `count` inputs are finished."""
        if self._inputs is not None:
            self._inputs.update(count - self._inputs.n)

    def inputs_more(self, count: int) -> None:
        """Shows that `count` more inputs are finished."""
        if self._inputs is not None:
            self._inputs.update(count)

    def step(self, done: int, total: int, unit: str, what: str) -> None:
        """Shows that `done` of `total` steps are finished. what: the kind of step."""
        if unit != self._unit or not self._console.shows_bars:
            return
        if self._steps is None or what != self._what:  # face detection comes before the faces
            self._close_steps()
            self._what = what
            before = done if done > 1 else 0  # of an earlier run
            self._steps = self._bar(total, what if what in (unit, "MB") else "step", self._console.input[-40:], before)
        self._steps.update(done - self._steps.n)

    def close(self) -> None:
        """Removes the bars from the screen."""
        self._close_steps()
        if self._inputs is not None:
            self._inputs.close()
            self._inputs = None

    def _close_steps(self) -> None:
        if self._steps is not None:
            self._steps.close()
            self._steps = None


class _Steps(Progress):
    def __init__(self, bars: Bars, unit: str) -> None:
        self._bars, self._unit = bars, unit

    def report(self, done: int, total: int, what: str, preview: npt.NDArray[np.float32] | None = None) -> None:
        self._bars.step(done, total, self._unit, what.rstrip("/ 0123456789"))
