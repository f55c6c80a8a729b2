"""Writes the weights of any GPEN generator as a .safetensors file, in half precision or float32."""

from __future__ import annotations

from pathlib import Path

from ..errors import SettingsError, WeightsError
from ..pictures.disk import check_free, whole_file
from ..weights.checkpoint import read_generator
from ..weights.files import Resolved


def convert_weights(source: Resolved, target: Path, *, half: bool = True, overwrite: bool = False) -> Path:
    """Writes `source` (see network.load.find_model) to `target` under the official tensor names, and returns `target`.

    half: fp16, half the size, within 2e-3 of the original network's output on average; otherwise float32, unchanged. The file's
    metadata names the alignment template, so that the result is used as its source was. A failure leaves no partial file.
    Raises SettingsError for a target without the suffix .safetensors, WeightsError for a source that cannot be read or has values too
    large for fp16, OutputExistsError, and PictureError if the target cannot be written.
    """
    import torch
    from safetensors.torch import save

    if target.suffix.lower() != ".safetensors":
        raise SettingsError(f"weights are written as .safetensors; {target} has another suffix")
    check_free(target, overwrite)
    dtype = torch.float16 if half else torch.float32
    tensors = {key: tensor.to(dtype).contiguous() for key, tensor in read_generator(source.path).items()}
    for key, tensor in tensors.items():
        if half and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"'{source.path}' does not fit into fp16: '{key}' has values above 65,504; keep float32.")
    data = save(tensors, metadata={"name": source.name, "template": source.template})
    with whole_file(target, overwrite) as file:
        file.write(data)
    return target
