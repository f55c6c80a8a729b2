"""The command line: `python -m gpen_core restore|detect|colorize|inpaint|seg2face|job|models|page|info`. See docs/command-line.md.

Imports only what the arguments need: `--help` and `models list` work without torch.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

from .. import __version__
from ..errors import FeatureMissingError, GpenError, SettingsError, WeightsError
from ..options import PRESET, Option, RestoreOptions
from ..task_options import TaskOptions
from ..video.codecs import CODECS, DEFAULT
from ..video.rate import rate_of
from ..video.span import Span
from .console import ELSEWHERE, Console

PROGRAM = "python -m gpen_core"
INTERRUPTED = 130  # 128 + SIGINT, as in shells
PIPE_CLOSED = 141  # 128 + SIGPIPE
_EXIT_CODES = "exit codes: 0 done, 1 some inputs failed, 2 wrong usage or settings, 3 weights missing or unusable"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code. Raises nothing, not even SystemExit."""
    try:
        arguments = _parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
    except SystemExit as stop:  # argparse has printed its message
        return stop.code if isinstance(stop.code, int) else 2
    arguments.argv = list(sys.argv[1:] if argv is None else argv)
    console = Console(quiet=arguments.quiet, debug=arguments.debug, as_json=getattr(arguments, "json", False))
    with console:
        try:
            return _command(arguments.run)(arguments, console)
        except KeyboardInterrupt:
            console.error("interrupted")
            return INTERRUPTED
        except BrokenPipeError:
            # The reader of our output has closed it. Python must not try to write the rest on exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PIPE_CLOSED
        except GpenError as error:
            if isinstance(error, WeightsError):
                error.elsewhere = ELSEWHERE
            console.error(str(error))
            _show_traceback(console)
            return exit_code_of(error)
        except Exception as error:
            text = " ".join(str(error).split())
            console.error(f"unexpected {type(error).__name__}: {text}" + ("" if console.debug else " (--debug shows where)"))
            _show_traceback(console)
            return 1


def _joined(words: Sequence[str]) -> list[str]:
    """`--trim -1:05` as `--trim=-1:05`: argparse takes a word that begins with a minus for a flag."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "--trim" and re.match(r"-\d", word):
            word = f"{joined.pop()}={word}"
        joined.append(word)
    return joined


def _show_traceback(console: Console) -> None:
    if console.debug:
        console.raw_error(traceback.format_exc())


def exit_code_of(error: BaseException) -> int:
    """The exit code for an error."""
    if isinstance(error, WeightsError):
        return 3
    return 2 if isinstance(error, (SettingsError, FeatureMissingError)) else 1


def _command(name: str) -> Callable[[argparse.Namespace, Console], int]:
    """Imports and returns the function named "module:function"."""
    module, function = name.split(":")
    return getattr(importlib.import_module(f".{module}", __package__), function)


# --- arguments -------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Reports errors in one line, like all other errors, and accepts no abbreviated flags."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})  # pyright: ignore[reportArgumentType]

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"gpen: {message} (see {self.prog} --help)\n")
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=PROGRAM, description="GPEN face restoration.", epilog=_EXIT_CODES)
    parser.add_argument("--version", action="version", version=f"gpen_core {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)

    restore = _command_parser(commands.add_parser, "restore", "pictures:restore", "restore the faces in pictures and videos")
    _add_inputs(restore, "pictures, videos, .tar archives, and folders (including sub-folders)", out_needed=True, checked_later=True)
    _add_writing(restore)
    restore.add_argument("--crf", type=_whole(0, 51), default=18, metavar="N", help="video quality: 0 (lossless) to 51 (default: 18)")
    text = "restore only this part of videos: seconds or h:mm:ss, such as 10-20, 1:05- or -30"
    restore.add_argument("--trim", type=_span, metavar="START-END", help=text)
    restore.add_argument("--codec", choices=CODECS, default=DEFAULT, help=f"codec of videos (default: {DEFAULT}; ffv1 is lossless)")
    text = "at most so many frames a second in videos, such as 12: the others are left out"
    restore.add_argument("--fps", type=_rate, metavar="N", help=text)
    restore.add_argument("--video-on-card", action="store_true", help="decode and encode videos on an NVIDIA card, if it can")
    text = "begin videos anew, and forget what a stopped run has left of them"
    restore.add_argument("--video-restart", action="store_true", help=text)
    restore.add_argument("--faces-dir", type=Path, metavar="DIR", help="also save the aligned crop of each face here, before and after")
    restore.add_argument("--compare", action="store_true", help="also save a before/after comparison beside each picture")
    _add_job(restore)
    _add_models_dir(restore)
    _add_options(restore, [PRESET, *RestoreOptions.table()])

    detect = _command_parser(commands.add_parser, "detect", "pictures:detect", "find faces and print where they are")
    _add_inputs(detect, "pictures and folders", out_needed=False)
    _add_writing(detect)
    _add_models_dir(detect)
    _add_options(detect, [PRESET, *RestoreOptions.of("finding", "choosing"), *(o for o in RestoreOptions.table() if o.name == "device")])

    for name, text in (
        ("colorize", "colourise the faces in black-and-white pictures"),
        ("inpaint", "fill the missing parts of faces (painted white, or given by --hole-mask)"),
        ("seg2face", "generate faces from segmentation maps (no face detection)"),
    ):
        task = _command_parser(commands.add_parser, name, f"pictures:{name}", text)
        _add_inputs(task, "pictures and folders", out_needed=True)
        _add_writing(task)
        if name == "inpaint":
            task.add_argument("--hole-mask", type=Path, metavar="FILE", help="a picture of the same size, white in the areas to fill")
        _add_models_dir(task)
        if name == "seg2face":
            task.add_argument("--model", help="catalogue name or file (default: the catalogue's model for this task)")
            _add_options(task, RestoreOptions.of("machine"))
        else:
            _add_options(task, TaskOptions.table("colorize" if name == "colorize" else "inpaint"))

    _add_page(commands.add_parser)
    text = "list, download, verify and convert weights"
    _add_models(commands.add_parser("models", help=text, description=text.capitalize() + "."))

    text = "check a job of `restore --job`, or write its report"
    _add_job_actions(commands.add_parser("job", help=text, description=text[0].upper() + text[1:] + "."))

    info = _command_parser(commands.add_parser, "info", "info:info", "show versions, devices, folders and optional packages")
    info.add_argument("--json", action="store_true", help="as one JSON object on stdout")
    _add_models_dir(info)
    return parser


def _add_page(add: Callable[..., argparse.ArgumentParser]) -> None:
    page = _command_parser(add, "page", "page:page", "try everything on a page in the browser (needs gradio)")
    page.add_argument("--port", type=_whole(1, 65535), metavar="N", help="port of the page (default: 7860 or the next free one)")
    page.add_argument("--listen", action="store_true", help="let other machines use it, with a password")
    page.add_argument("--password", metavar="TEXT", help="ask for this password (default with --listen: one is made and printed)")
    page.add_argument("--no-browser", action="store_true", help="do not open the page in a browser")
    _add_models_dir(page)


def _command_parser(add: Callable[..., argparse.ArgumentParser], name: str, run: str, text: str) -> argparse.ArgumentParser:
    parser = add(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=_EXIT_CODES)
    parser.set_defaults(run=run)
    parser.add_argument("--quiet", action="store_true", help="print only errors (and the JSON object), without progress bars")
    parser.add_argument("--debug", action="store_true", help="print all log messages, and tracebacks of errors")
    return parser


def _add_inputs(parser: argparse.ArgumentParser, what: str, *, out_needed: bool, checked_later: bool = False) -> None:
    """checked_later: the command itself asks for what is missing (`restore` takes --list in place of IN)."""
    parser.usage = f"{parser.prog} IN [IN ...] {'-o OUT' if out_needed else '[-o OUT]'} [settings]"
    parser.add_argument("inputs", nargs="*" if checked_later else "+", type=Path, metavar="IN", help=what)
    text = (
        "output file (if IN is one file), or a folder: a name without an extension, or with a slash at the end"
        if out_needed
        else "also write copies with the faces marked here"
    )
    parser.add_argument("-o", "--out", required=out_needed and not checked_later, metavar="OUT", help=text)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")


def _add_writing(parser: argparse.ArgumentParser) -> None:
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument(
        "--overwrite", action="store_true", help="replace existing outputs (without it, they are kept and count as failed)"
    )
    existing.add_argument("--skip-existing", action="store_true", help="skip inputs whose output exists, to resume an earlier run")
    parser.add_argument("--quality", type=_whole(1, 100), default=95, metavar="N", help="quality of JPEG and WebP, 1 to 100 (default: 95)")


def _add_job(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("jobs of many pictures, which go on where they were (see docs/command-line.md)")
    group.add_argument("--job", type=Path, metavar="DIR", help="keep the list of inputs and a record of each in this folder")
    group.add_argument(
        "--list", type=Path, action="append", metavar="FILE", help="take the paths in this text file too, one a line (-: stdin)"
    )
    group.add_argument("--list-only", action="store_true", help="make the list of inputs and stop, before several machines start")
    group.add_argument("--shard", type=_share, default=(0, 1), metavar="I/N", help="do only part I of N, counted from 0: 0/8 to 7/8")
    group.add_argument(
        "--workers", type=_whole(1, 1024), default=1, metavar="N", help="N processes: one a card in turn, or they share the cores"
    )
    group.add_argument("--dry-run", action="store_true", help="only find faces: counts, a report, and a sheet of faces in DIR")
    text = "spread the job over a Ray cluster (default: a running one); see docs/scale.md"
    group.add_argument("--ray", nargs="?", const="", metavar="ADDRESS", help=text)
    group.add_argument("--job-worker", type=_share, help=argparse.SUPPRESS)
    group.add_argument("--job-restart", action="store_true", help="forget what was done and begin the job anew, e.g. with other settings")


def _add_job_actions(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION", parser_class=_Parser)
    check = _command_parser(actions.add_parser, "check", "jobs:check", "check that every input has one whole output")
    check.add_argument("--quick", action="store_true", help="do not decode outputs, only look at their lengths")
    report = _command_parser(actions.add_parser, "report", "jobs:report", "write report.html into the job's folder")
    for action in (check, report):
        action.add_argument("job", type=Path, metavar="DIR", help="the job's folder")
        action.add_argument("--json", action="store_true", help="as one JSON object on stdout")


def _share(text: str) -> tuple[int, int]:
    """A type for argparse: "2/8" as (2, 8)."""
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 0 to N-1, such as 0/8 to 7/8")
    return int(part), int(parts)


def _span(text: str) -> Span:
    """A type for argparse: "10-20"."""
    try:
        return Span.parse(text)
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _rate(text: str) -> Fraction:
    """A type for argparse: "12" or "30000/1001"."""
    try:
        return rate_of(text)
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_models_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models-dir", type=Path, metavar="DIR", help="the folder that contains GPEN/ (default: GPEN_MODELS_DIR, else ./models)"
    )


def _add_options(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    """Adds the flags of these options. Values stay text: RestoreOptions checks them and explains errors."""
    group = parser.add_argument_group("settings")
    for option in options:
        if option.kind == "bool":
            group.add_argument(flag_of(option), action=argparse.BooleanOptionalAction, default=None, help=_help_of(option))
        else:
            group.add_argument(flag_of(option), default=None, metavar=_metavar_of(option), help=_help_of(option))


def flag_of(option: Option) -> str:
    """The command-line flag of an option."""
    return "--" + option.name.replace("_", "-")


def _help_of(option: Option) -> str:
    shown = ("yes" if option.default else "no") if option.kind == "bool" else str(option.default)
    # The help texts explain an empty value themselves.
    return (option.help + (f" (default: {shown})" if shown else "")).replace("%", "%%")


def _metavar_of(option: Option) -> str:
    if option.kind == "choice":
        return "{" + ",".join(option.choices) + "}"
    if option.minimum is not None and option.maximum is not None:
        return f"{option.minimum:g}..{option.maximum:g}"
    return "N" if option.kind in ("int", "float") else "TEXT"


def _add_models(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION", parser_class=_Parser)
    for name, function, text in (
        ("list", "list_models", "list all weights and show which are on disk"),
        ("download", "download", "download weights to models/GPEN and check them"),
        ("verify", "verify", "check the weights on disk against their checksums"),
        ("convert", "convert", "write weights as .safetensors in fp16, at half the size (or in float32)"),
        ("where", "where", "show the folders that are searched for weights"),
    ):
        action = _command_parser(actions.add_parser, name, f"models:{function}", text)
        if name in ("download", "verify"):
            names = "catalogue names" if name == "download" else "catalogue names (default: everything on disk)"
            action.add_argument("names", nargs="+" if name == "download" else "*", metavar="NAME", help=names)
        if name == "convert":
            action.add_argument("model", metavar="MODEL", help="catalogue name (downloaded if missing) or file")
            action.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the .safetensors file to write")
            action.add_argument("--float32", action="store_true", help="keep float32, the same numbers at twice the size of fp16")
            action.add_argument("--overwrite", action="store_true", help="replace an existing file")
        action.add_argument("--json", action="store_true", help="as one JSON object on stdout")
        _add_models_dir(action)


def _whole(low: int, high: int) -> Callable[[str], int]:
    """A type for argparse: a whole number in a range."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return value

    return number
