"""Reads tensors from .safetensors, .pth (both layouts of torch.save) and .onnx files, recognised by their content.

No file can run code here: safetensors and ONNX hold none, and `pickle_reader`, which reads .pth files, can only build tensors.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from ..errors import DamagedWeightsError, WeightsError, shown
from .architecture import Architecture
from .catalog import Template
from .formats.identify import WANTED, describe_keys, file_kind
from .formats.onnx_reader import Parameter, read_onnx
from .formats.pickle_machine import TensorSpec, code_message
from .formats.pickle_reader import TorchFile
from .formats.safetensors_reader import SafetensorsFile

if TYPE_CHECKING:
    import torch

LOG = logging.getLogger("gpen_core.weights")
Shape = tuple[int, ...]

# Keys under which checkpoints hold the weights; the running average comes first because it is the better network.
_CONTAINERS = ("g_ema", "params_ema", "params", "state_dict")


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """All tensors of a weight file by name, on the CPU, in the type they were saved in.

    Containers (g_ema, params_ema, params, state_dict) and a common "module." prefix are removed; an ONNX file gives a GPEN generator's
    official names. Raises WeightsError, in one sentence, if the file holds no tensors, is damaged, or asks to run code.
    """
    with _opened(path) as (_shapes, load):
        return load()


def read_shapes(path: str | Path) -> dict[str, Shape]:
    """Names and shapes of the tensors, as in `read_state_dict`. Reads only the file's header and does not import torch.

    Raises WeightsError as `read_state_dict` does, except for damage that only shows when the tensor data is read.
    """
    with _opened(path) as (shapes, _load):
        return shapes


def read_architecture(path: str | Path) -> Architecture:
    """The architecture of the GPEN generator in a file, from its header alone. Raises WeightsError, which says what any other file is."""
    return _architecture(Path(path), read_shapes(path))


def read_template(path: str | Path) -> Template | None:
    """The alignment template that a .safetensors file names in its metadata, as training/export.py writes it; None for all other files."""
    with _reading(Path(path)):
        if file_kind(Path(path)) != "safetensors":
            return None
        named = SafetensorsFile(Path(path)).metadata.get("template")
        return next((template for template in get_args(Template) if template == named), None)


def read_generator(path: str | Path) -> dict[str, torch.Tensor]:
    """The state dict of a GPEN generator, official names (the FIR kernels may be missing), in the type it was saved in.

    Raises WeightsError with one sentence that says what the file is and what is needed.
    """
    with _opened(path) as (shapes, load):
        _architecture(Path(path), shapes)  # first, to refuse a wrong file of gigabytes before reading its data
        return load()


@contextmanager
def _opened(path: str | Path) -> Generator[tuple[dict[str, Shape], Callable[[], dict[str, torch.Tensor]]], None, None]:
    """(names and shapes, function that reads the tensors) of a file. Reads its header once."""
    path = Path(path)
    with _reading(path):
        kind = file_kind(path)
        if kind == "safetensors":
            tensors = SafetensorsFile(path)
            yield _without_prefix(tensors.shapes), lambda: _without_prefix(tensors.tensors())
        elif kind == "onnx":
            parameters = read_onnx(path)
            yield {key: parameter.shape for key, parameter in parameters.items()}, lambda: _tensors_of(parameters)
        else:
            with TorchFile(path) as file:
                specs = _specs(path, file)
                yield {key: spec.shape for key, spec in specs.items()}, lambda: _loaded(file, specs)


def _tensors_of(parameters: Mapping[str, Parameter]) -> dict[str, torch.Tensor]:
    import torch

    from_numpy = cast("Callable[[Any], torch.Tensor]", cast("Any", torch).from_numpy)
    return {key: from_numpy(parameter.array()) for key, parameter in parameters.items()}


def _loaded(file: TorchFile, specs: Mapping[str, TensorSpec]) -> dict[str, torch.Tensor]:
    # Tensors may share data, but each may become a copy: thousands of copies from a file of a megabyte.
    if sum(spec.bytes for spec in specs.values()) > 2 * file.length:
        raise WeightsError("its tensors share the same data many times, which no weight file does")
    return {key: file.load(spec) for key, spec in specs.items()}


def _architecture(path: Path, shapes: Mapping[str, Shape]) -> Architecture:
    try:
        return Architecture.from_shapes(shapes)
    except WeightsError as error:
        whole = {"generator.input.input", "ecd0.0.0.weight", "final_linear.0.weight"} <= set(shapes)
        what = f"an unsupported GPEN generator ({error})" if whole else describe_keys(shapes)
        raise WeightsError(f"'{shown(path, 300)}' is {what}; {WANTED} is needed.") from error


@contextmanager
def _reading(path: Path) -> Generator[None, None, None]:
    """Turns every error of a reader into WeightsError with the file's name, including errors that no reader expected."""
    name = shown(path, 300)
    try:
        yield
    except WeightsError as error:
        text = str(error)
        if name in text:
            raise
        damaged = isinstance(error, DamagedWeightsError)
        advice = "delete it and download it again" if damaged else f"{WANTED} is needed"
        raise type(error)(f"'{name}' cannot be used: {text}; {advice}.") from error
    except OSError as error:
        raise WeightsError(f"'{name}' cannot be read ({error.strerror or shown(error)}).") from error
    except MemoryError as error:
        raise WeightsError(f"'{name}' cannot be read: there is not enough memory.") from error
    except Exception as error:
        LOG.debug("'%s' could not be read", name, exc_info=error)
        raise DamagedWeightsError(f"'{name}' is damaged ({type(error).__name__}); delete it and download it again.") from error


def _specs(path: Path, file: TorchFile) -> dict[str, TensorSpec]:
    """The tensors of an opened torch file, without container and prefix. Raises WeightsError if it holds code or no tensors."""
    name = shown(path, 300)
    tensors = _unwrapped(file.root)
    if file.foreign:
        # Old Stable Diffusion checkpoints hold objects of their trainer; naming the model helps more than a warning alone.
        what = describe_keys(tensors) if tensors else ""
        known = f"is {what}, and " if what and "unknown" not in what else "cannot be used: "
        raise WeightsError(f"'{name}' {known}{code_message(file.foreign[0])}; {WANTED} is needed.")
    if not tensors:
        root: object = file.root
        keys: Iterable[Any] = cast("dict[Any, Any]", root) if isinstance(root, dict) else ()
        what = describe_keys(key for key in keys if isinstance(key, str))
        known = what if what.startswith("a ") and what != "a file without tensors" else "a pickle without tensors"
        raise WeightsError(f"'{name}' is {known}; {WANTED} is needed.")
    return tensors


def _unwrapped(root: Any) -> dict[str, TensorSpec]:
    """The state dict inside the object given to torch.save; empty if there is none."""
    if not isinstance(root, dict):
        return {}
    content = cast("dict[Any, Any]", root)
    for name in _CONTAINERS:
        inner = content.get(name)
        if isinstance(inner, dict):
            tensors = _tensors(cast("dict[Any, Any]", inner))
            if tensors:
                return tensors
    return _tensors(content)


def _tensors(content: dict[Any, Any]) -> dict[str, TensorSpec]:
    return _without_prefix({key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, TensorSpec)})


def _without_prefix(tensors: dict[str, Any]) -> dict[str, Any]:
    """Removes "module.", which DataParallel puts before every name."""
    if tensors and all(key.startswith("module.") for key in tensors):
        return {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors
