"""What a process shares with all that runs in it, as a table: to be compared before and after something that must leave it alone."""

from __future__ import annotations

import decimal
import gc
import locale
import logging
import os
import random
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

# Tables that grow when a module is imported: what was there before must stay.
_TABLES = {
    "PIL.Image": ("ID", "OPEN", "SAVE", "SAVE_ALL", "MIME", "EXTENSION", "DECODERS", "ENCODERS"),
    "folder_paths": ("folder_names_and_paths",),
    "nodes": ("NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "EXTENSION_WEB_DIRS"),
}
_VALUES = {
    "PIL.Image": ("MAX_IMAGE_PIXELS", "WARN_POSSIBLE_FORMATS"),
    "PIL.ImageFile": ("LOAD_TRUNCATED_IMAGES", "MAXBLOCK", "SAFEBLOCK"),
    "PIL.PngImagePlugin": ("MAX_TEXT_CHUNK", "MAX_TEXT_MEMORY"),
    "PIL.GifImagePlugin": ("LOADING_STRATEGY",),
    "PIL.TiffImagePlugin": ("READ_LIBTIFF", "WRITE_LIBTIFF"),
}
# Python's and libraries' own business: they change by themselves when something is imported or called.
_RESTLESS = (
    "importlib",
    "_frozen",
    "zipimport",
    "torch._dynamo",
    "torch._inductor",
    "torch.fx",
    "torch._C",
    "ctypes",
)


def snapshot(modules: tuple[str, ...] = ("",)) -> dict[str, Any]:
    """Name -> value of everything that is shared. Imports nothing that is not imported already.

    modules: the beginnings of the names of those whose functions and classes are looked at; all, if nothing is said.
    """
    with warnings.catch_warnings():
        filters = list(warnings.filters)
        warnings.simplefilter("ignore")  # some of what is asked is called otherwise in newer versions
        return {**_python(), "warnings.filters": filters, **_torch(), **_libraries(), **dict(_modules(modules))}


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What differs, a line each. What came new is no change."""
    return [f"{name}: {_short(value)} -> {_short(after.get(name))}" for name, value in before.items() if not _same(value, after.get(name))]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Table):
        return isinstance(other, Table) and all(name in other.rows and other.rows[name] is row for name, row in one.rows.items())
    if isinstance(one, Known):
        return isinstance(other, Known) and one.thing is other.thing
    return type(one) is type(other) and one == other


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 300 else f"{text[:300]}…"


class Known:
    """A thing that must stay the same one."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __repr__(self) -> str:
        return f"{self.thing!r} at {id(self.thing):x}"


class Table:
    """Rows that must stay; others may come."""

    def __init__(self, rows: dict[Any, Any]) -> None:
        self.rows = dict(rows)

    def __repr__(self) -> str:
        return f"{len(self.rows)} rows"


def _python() -> dict[str, Any]:
    root = logging.getLogger()
    found: dict[str, Any] = {
        "names in os.environ": sorted(os.environ), "working directory": str(Path.cwd()), "sys.path": list(sys.path),
        "sys.argv": list(sys.argv),
        "locale": locale.setlocale(locale.LC_ALL), "random": random.getstate(), "recursion limit": sys.getrecursionlimit(),
        "switch interval": sys.getswitchinterval(), "gc": (gc.isenabled(), gc.get_threshold()),
        "socket timeout": socket.getdefaulttimeout(),
        "sys.meta_path": list(sys.meta_path), "sys.path_hooks": list(sys.path_hooks), "trace": (sys.gettrace(), sys.getprofile()),
        "hooks": (sys.excepthook, sys.displayhook, threading.excepthook, sys.unraisablehook, sys.breakpointhook),
        "streams": tuple(map(id, (sys.stdin, sys.stdout, sys.stderr))), "decimal": str(decimal.getcontext()),
        "most digits": getattr(sys, "get_int_max_str_digits", lambda: 0)(), "umask": _umask(),
        "warnings.showwarning": warnings.showwarning,
        "logging": (logging.root.manager.disable, logging.raiseExceptions, logging.getLoggerClass(), id(logging.lastResort)),
        "root logger": (root.level, list(root.handlers), list(root.filters)),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
    }  # fmt: skip
    found |= {f"os.environ {name}": value for name, value in os.environ.items()}
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger):
            found[f"logger {name}"] = (logger.level, list(logger.handlers), list(logger.filters), logger.propagate, logger.disabled)
    return found


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _torch() -> dict[str, Any]:
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return {}
    backends, cuda = torch.backends, torch.backends.cuda
    asked: dict[str, Callable[[], Any]] = {
        "default dtype": torch.get_default_dtype, "default device": lambda: str(torch.empty(0).device), "grad": torch.is_grad_enabled,
        "inference": torch.is_inference_mode_enabled, "anomaly": torch.is_anomaly_enabled, "threads": torch.get_num_threads,
        "interop threads": torch.get_num_interop_threads, "deterministic": torch.are_deterministic_algorithms_enabled,
        "deterministic warns": torch.is_deterministic_algorithms_warn_only_enabled,
        "matmul precision": torch.get_float32_matmul_precision,
        "denormals": lambda: bool((torch.tensor([1e-40]) * 1).item() != 0), "random": lambda: torch.get_rng_state().numpy().tobytes(),
        "autocast": torch.is_autocast_enabled, "autocast dtype": torch.get_autocast_gpu_dtype,
        "cpu autocast": torch.is_autocast_cpu_enabled,
        "cpu autocast dtype": torch.get_autocast_cpu_dtype, "autocast cache": torch.is_autocast_cache_enabled,
        "warn always": torch.is_warn_always_enabled, "print": lambda: vars(torch._tensor_str.PRINT_OPTS).copy(),
        "sharing": torch.multiprocessing.get_sharing_strategy, "matmul tf32": lambda: cuda.matmul.allow_tf32,
        "reduced fp16": lambda: cuda.matmul.allow_fp16_reduced_precision_reduction,
        "reduced bf16": lambda: cuda.matmul.allow_bf16_reduced_precision_reduction,
        "attention": lambda: (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()),
        "mkldnn": lambda: torch._C._get_mkldnn_enabled(), "nnpack": lambda: torch._C._get_nnpack_enabled(),
        "quantized": lambda: backends.quantized.engine,
    }  # fmt: skip
    for name in ("enabled", "benchmark", "deterministic", "allow_tf32", "benchmark_limit"):
        asked[f"cudnn.{name}"] = lambda name=name: getattr(backends.cudnn, name, None)
    found: dict[str, Any] = {}
    for name, ask in asked.items():
        try:
            found[f"torch: {name}"] = ask()
        except (AttributeError, RuntimeError):  # another torch
            found[f"torch: {name}"] = None
    return found


def _libraries() -> dict[str, Any]:
    found: dict[str, Any] = {}
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        state = numpy.random.get_state()
        found |= {"numpy random": (state[0], state[1].tobytes(), *state[2:]), "numpy errors": numpy.geterr()}
        found |= {"numpy error call": numpy.geterrcall(), "numpy print": dict(numpy.get_printoptions())}
    cv2: Any = sys.modules.get("cv2")
    if cv2 is not None:
        found |= {"cv2 threads": cv2.getNumThreads(), "cv2 optimized": cv2.useOptimized(), "cv2 OpenCL": cv2.ocl.useOpenCL()}
    for module, names in _VALUES.items():
        if module in sys.modules:
            found |= {f"{module}.{name}": getattr(sys.modules[module], name, None) for name in names}
    for module, names in _TABLES.items():
        if module in sys.modules:
            tables = {name: getattr(sys.modules[module], name, {}) for name in names}
            found |= {f"{module}.{name}": Table(dict.fromkeys(table)) for name, table in tables.items() if isinstance(table, list)}
            found |= {f"{module}.{name}": Table(table) for name, table in tables.items() if isinstance(table, dict)}
    return found


def _modules(wanted: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Every imported module, and every function and class in it and in its classes, which must stay the same one."""
    for name, module in list(sys.modules.items()):
        if not name.startswith(wanted) or name.startswith(_RESTLESS) or not isinstance(module, ModuleType):
            continue
        yield f"module {name}", Known(module)
        for key, value in list(vars(module).items()):
            # Not isinstance(), which asks the thing itself, and some things warn or import then.
            kinds = type(value).__mro__
            if FunctionType in kinds or type in kinds:
                yield f"{name}.{key}", Known(value)
            if type in kinds and value.__module__ == name:
                for attribute, work in list(vars(value).items()):
                    if type(work) in (FunctionType, staticmethod, classmethod, property):
                        yield f"{name}.{key}.{attribute}", Known(work)
