"""Reads tensors from .safetensors, .pth (both layouts of torch.save) and .onnx files, told apart by their content.

No file can run code here: safetensors and ONNX hold none, and .pth goes through `pickle_reader`, which can build tensors and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import WeightsError
from ..network.architecture import Architecture
from .identify import WANTED, describe_keys, file_kind, safetensors_shapes
from .onnx_reader import read_onnx
from .pickle_machine import TensorSpec, code_message
from .pickle_reader import TorchFile

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]

# Where programs put the weights inside a checkpoint; the running average comes first, for it is the better network.
_CONTAINERS = ("g_ema", "params_ema", "params", "state_dict")


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """All tensors of a weight file by name, on the CPU, in the type they were saved in.

    Containers (g_ema, params_ema, params, state_dict) and a common "module." prefix are taken off; an ONNX file gives a GPEN generator's
    official names. Raises WeightsError, in one sentence, where the file holds no tensors, is damaged, or asks to run code.
    """
    path = Path(path)
    kind = file_kind(path)
    if kind == "safetensors":
        return _read_safetensors(path)
    if kind == "onnx":
        import torch

        from_numpy = cast("Callable[[Any], torch.Tensor]", cast("Any", torch).from_numpy)
        return {key: from_numpy(parameter.array()) for key, parameter in _open_onnx(path).items()}
    try:
        with TorchFile(path) as file:
            specs = _specs(path, file)
            return {key: file.load(spec) for key, spec in specs.items()}
    except WeightsError as error:
        raise _with_path(path, error) from error


def read_shapes(path: str | Path) -> dict[str, Shape]:
    """Names and shapes of the tensors, as `read_state_dict` would give them, from the file's head alone; torch is not imported.

    Raises WeightsError as `read_state_dict` does, except for damage that only the numbers themselves show.
    """
    path = Path(path)
    kind = file_kind(path)
    if kind == "safetensors":
        return _without_prefix(safetensors_shapes(path))
    if kind == "onnx":
        return {key: parameter.shape for key, parameter in _open_onnx(path).items()}
    try:
        with TorchFile(path) as file:
            return {key: spec.shape for key, spec in _specs(path, file).items()}
    except WeightsError as error:
        raise _with_path(path, error) from error


def read_architecture(path: str | Path) -> Architecture:
    """What GPEN generator a file holds, from its head alone. Raises WeightsError, which says what the file is, where it holds none."""
    path = Path(path)
    return _architecture(path, read_shapes(path))


def read_generator(path: str | Path) -> dict[str, torch.Tensor]:
    """The state dict of a GPEN generator, official names (the FIR kernels may be missing), in the type it was saved in.

    Raises WeightsError with one sentence that says what the file is and what was wanted.
    """
    path = Path(path)
    # The head first: a wrong file of gigabytes is refused before its numbers are read.
    _architecture(path, read_shapes(path))
    return read_state_dict(path)


def _architecture(path: Path, shapes: Mapping[str, Shape]) -> Architecture:
    try:
        return Architecture.from_shapes(shapes)
    except WeightsError as error:
        whole = {"generator.input.input", "ecd0.0.0.weight", "final_linear.0.weight"} <= set(shapes)
        what = f"a GPEN generator of a kind that cannot be used ({error})" if whole else describe_keys(shapes)
        raise WeightsError(f"'{path}' is {what}; wanted is {WANTED}.") from error


def _with_path(path: Path, error: WeightsError) -> WeightsError:
    """Errors from below say what is wrong; here they get the file's name."""
    text = str(error)
    if str(path) in text:
        return error
    cut = "cut off" in text or "damaged" in text
    advice = "delete it and fetch it again" if cut else f"wanted is {WANTED}"
    return WeightsError(f"'{path}' cannot be used: {text}; {advice}.")


def _open_onnx(path: Path) -> Mapping[str, Any]:
    try:
        return read_onnx(path)
    except WeightsError as error:
        raise _with_path(path, error) from error


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    safetensors_shapes(path)  # says better than the library what is wrong
    from safetensors import SafetensorError, safe_open

    try:
        # The library's own types are incomplete, hence Any.
        with cast("Any", safe_open)(path, framework="pt", device="cpu") as file:
            return _without_prefix({str(key): file.get_tensor(key) for key in file.keys()})  # noqa: SIM118 (it is no dict)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"'{path}' is damaged ({error}); delete it and fetch it again.") from error


def _specs(path: Path, file: TorchFile) -> dict[str, TensorSpec]:
    """The tensors of an opened torch file, container and prefix taken off. Raises WeightsError for code, or where there are none."""
    tensors = _unwrapped(file.root)
    if file.foreign:
        # Old checkpoints of Stable Diffusion hold objects of their trainer: better called by their name than dangerous.
        what = describe_keys(tensors) if tensors else ""
        known = f"is {what}, and " if what and "unknown" not in what else "cannot be used: "
        raise WeightsError(f"'{path}' {known}{code_message(file.foreign[0])}; wanted is {WANTED}.")
    if not tensors:
        root: object = file.root
        what = describe_keys(str(key) for key in cast("dict[Any, Any]", root)) if isinstance(root, dict) else "unknown"
        raise WeightsError(f"'{path}' is {'a pickle without tensors' if 'unknown' in what else what}; wanted is {WANTED}.")
    return tensors


def _unwrapped(root: Any) -> dict[str, TensorSpec]:
    """The state dict inside whatever torch.save was given; empty where there is none."""
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
    """Takes off "module.", which DataParallel puts before every name."""
    if tensors and all(key.startswith("module.") for key in tensors):
        return {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors
