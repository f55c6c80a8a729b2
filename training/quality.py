"""Quality figures of restored pictures: similarity, sharpness, landmarks, Fréchet distance. Pictures are (S, S, 3) uint8 RGB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from gpen_core.faces.detect import Detector
from gpen_core.faces.onnx_network import OnnxNetwork

MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MISSED = 0.5  # landmark error of a face that is no longer detected, in eye distances


def psnr(picture: NDArray[Any], good: NDArray[Any], keep: NDArray[Any]) -> float:
    """PSNR in dB; keep: (S, S) bool, the pixels that count."""
    error = (picture.astype(np.float64) - good)[keep]
    return float(10 * np.log10(255**2 / max(float(np.mean(error**2)), 1e-6)))


def _similarity(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """SSIM and SSIM without luminance, (S, S) each, mean over channels; Gaussian window of sigma 1.5 (Wang et al. 2004)."""

    def mean(x: NDArray[Any]) -> NDArray[Any]:
        return cv2.GaussianBlur(x, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT)

    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b, both = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2, mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    contrast = (2 * both + c2) / (var_a + var_b + c2)
    return ((2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * contrast).mean(axis=2), contrast.mean(axis=2)


def ssim(picture: NDArray[Any], good: NDArray[Any], keep: NDArray[Any]) -> tuple[float, float]:
    """(SSIM, MS-SSIM (Wang et al. 2003, five scales))."""
    a, b, here = picture.astype(np.float64), good.astype(np.float64), keep.astype(np.float64)
    single, multi = 0.0, 1.0
    for level, weight in enumerate(MS_WEIGHTS):
        whole, contrast = _similarity(a, b)
        looked = here > 0.999
        if level == 0:
            single = float(whole[looked].mean())
        value = float((whole if level == len(MS_WEIGHTS) - 1 else contrast)[looked].mean())
        multi *= max(value, 0.0) ** weight
        a, b, here = (cv2.resize(x, (x.shape[1] // 2, x.shape[0] // 2), interpolation=cv2.INTER_AREA) for x in (a, b, here))
    return single, multi


def gradient_energy(picture: NDArray[Any], keep: NDArray[Any]) -> float:
    """Mean absolute difference between neighbouring pixels of the luma."""
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float64)
    both = keep[1:, 1:]
    across, down = np.abs(luma[1:, 1:] - luma[1:, :-1]), np.abs(luma[1:, 1:] - luma[:-1, 1:])
    return float((across + down)[both].mean())


def colour_shift(picture: NDArray[Any], good: NDArray[Any], keep: NDArray[Any]) -> float:
    """Mean absolute error of the channels' means, in grey levels."""
    return float(np.abs((picture.astype(np.float64) - good)[keep].mean(axis=0)).mean())


def landmarks(detector: Detector, picture: NDArray[Any]) -> NDArray[Any] | None:
    """The five landmarks (5, 2) of the largest face of a face crop, or None. Extends the crop's border, because detectors need a margin."""
    room = picture.shape[0] // 4
    wide = np.pad(picture, ((room, room), (room, room), (0, 0)), mode="edge").astype(np.float32) / np.float32(255)
    faces = [face for face in detector.detect(wide, 0.3) if face.shorter_side > room]
    return max(faces, key=lambda face: face.shorter_side).landmarks if faces else None


def landmark_error(found: NDArray[Any] | None, true: NDArray[Any]) -> float:
    """Mean distance of the five points, in eye distances."""
    if found is None:
        return MISSED
    return float(np.linalg.norm(found - true, axis=1).mean() / np.linalg.norm(true[1] - true[0]))


class YuNetFeatures:
    """Features of YuNet (Wu et al. 2023), which training never uses: 192 numbers per face, for the Fréchet distance."""

    RESULTS = ("236", "246", "256")  # the outputs of its three grids

    def __init__(self, file: Path) -> None:
        self.network = OnnxNetwork(file)

    def __call__(self, picture: NDArray[Any]) -> NDArray[Any]:
        x = torch.as_tensor(np.ascontiguousarray(picture[..., ::-1])).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            maps = [y for _, name, y in self.network.values(x) if name in self.RESULTS]
        return torch.cat([y.mean(dim=(0, 2, 3)) for y in maps]).numpy().astype(np.float64)


def frechet_distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Fréchet distance between two sets of features, (N, D) each, assumed Gaussian (Heusel et al., NeurIPS 2017)."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    ridge = 1e-6 * np.eye(a.shape[1])  # with fewer pictures than features the covariances are singular
    # The trace of the matrix root is the sum of the eigenvalues' roots; only rounding makes eigenvalues negative.
    roots = np.sqrt(np.linalg.eigvals((cov_a + ridge) @ (cov_b + ridge)).real.clip(0))
    return max(0.0, float(np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + np.trace(cov_a + cov_b) - 2 * roots.sum()))
