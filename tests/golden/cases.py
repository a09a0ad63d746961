"""Reads the reference data beside this file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent
BACKBONE_CASES = ("tsb3_window_global", "grad_tsb3_train", "two_branch_dino", "convnext_cnn_out")
INPUTS = ("square", "nonsquare")
POINTS = ("embed", "pre", "post", "final")


class BackboneCase:
    """One network of ``backbone/``, with inputs, outputs and gradients."""

    def __init__(self, name: str) -> None:
        folder = FOLDER / "backbone" / name
        description = json.loads((folder / "config.json").read_text())
        self.config: dict[str, Any] = description["backbone"]
        self.convnext_sizes: dict[str, Any] | None = description["convnext"]
        self.train: bool = description["mode"] == "train"
        self.weights = _load_npz(folder / "weights.npz")
        self.io = _load_npz(folder / "io.npz")
        self.gradients: dict[str, Any] = json.loads((folder / "grads.json").read_text())

    def outputs(self, input_name: str) -> list[Tensor]:
        """The output maps in float64, finest first."""
        prefix = f"{input_name}.out"
        names = sorted(
            name for name in self.io if name.startswith(prefix) and name.endswith(".f64")
        )
        return [self.io[name] for name in names]

    def tokens(self, input_name: str, point: str, branch: int) -> Tensor:
        """Tokens (B, H * W, C) of a branch, counted from 0, at a point of the network."""
        return self.io[f"{input_name}.{point}_x{branch + 1}.f64"]


def full_gradients(input_name: str) -> dict[str, Tensor]:
    """All gradients of ``grad_tsb3_train``, by the reference's parameter names."""
    return _load_npz(FOLDER / "backbone" / "grad_tsb3_train" / f"grads_{input_name}.npz")


def golden_loss(outputs: list[Tensor]) -> Tensor:
    """The scalar whose gradients were stored."""
    terms = []
    for level, output in enumerate(outputs):
        flat = output.reshape(-1)
        positions = torch.arange(flat.numel(), dtype=flat.dtype)
        terms.append((flat * torch.cos(0.1 * positions + level)).sum())
    return torch.stack(terms).sum()


def vector_cases() -> dict[str, dict[str, Any]]:
    """The networks of ``backbone_vectors.json``."""
    content = json.loads((FOLDER / "backbone_vectors.json").read_text())
    return {name: case for name, case in content.items() if "config" in case}


def vector_weights(keys: list[tuple[str, list[int]]]) -> dict[str, Tensor]:
    """The weights that the vectors were made with: a hash of key number and element."""
    return {
        name: _scaled(name, shape, _hashed(number, int(np.prod(shape))))
        for number, (name, shape) in enumerate(sorted((name, shape) for name, shape in keys))
    }


def vector_input(shape: list[int]) -> Tensor:
    """The images that the vectors were made with."""
    batch, channel, line, column = np.ogrid[tuple(slice(size) for size in shape)]
    waves = np.sin(0.05 * line + 0.3 * channel + 0.1 * batch) * np.cos(
        0.04 * column - 0.2 * channel
    )
    return torch.from_numpy(waves.astype(np.float32))


def _hashed(number: int, count: int) -> np.ndarray:
    state = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B1)
    state += np.uint32((number + 1) * 0x85EBCA77 & 0xFFFFFFFF)
    state ^= state >> np.uint32(15)
    state *= np.uint32(0x2C1B3C6D)
    state ^= state >> np.uint32(12)
    state *= np.uint32(0x297A2D39)
    state ^= state >> np.uint32(15)
    return state.astype(np.float64) / 2**31 - 1


def _scaled(name: str, shape: list[int], base: np.ndarray) -> Tensor:
    if "gamma" in name or "layer_scale" in name:
        values = 0.5 + 0.1 * base
    elif not shape or (len(shape) == 1 and name.endswith(".weight")):
        values = 1 + 0.1 * base
    elif name.endswith("sampling_offsets.bias"):
        values = 2 * base
    elif name.endswith("sampling_offsets.weight"):
        values = 0.05 * base
    elif "pos_embed" in name:
        values = 0.2 * base
    elif "relative_position_bias_table" in name:
        values = 0.5 * base
    elif len(shape) == 1:
        values = 0.1 * base
    else:
        values = 1.7 * base / np.sqrt(base.size / shape[0])
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def _load_npz(path: Path) -> dict[str, Tensor]:
    with np.load(path) as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}
