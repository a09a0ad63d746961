"""A folder that looks like a checkout with all its data, but with tiny ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from PIL import Image
from torch import Tensor

from piip_d2.data import SceneOptions, write_scenes
from piip_d2.engine.pretrained import STEM_FILE, stem_checkpoint
from piip_d2.modeling.backbone import ViTBranch
from piip_d2.visualization.video import VideoWriter
from tests.documents.markdown import ROOT
from tests.golden.cases import FOLDER, BackboneCase

CHECKED_OUT = ("Makefile", "configs", "demo.py", "tools", "train_net.py")
OFFICIAL_CHECKPOINTS = (
    "mask_rcnn_deit_tsb_1120_896_448_fpn_1x_coco_bs16.pth",
    "piip_official.pth",
)

# Single networks by their file, in the sizes that the commands are shortened to.
SINGLE_NETWORKS = {
    "deit_tiny_patch16_224-a1311bcf.pth": (16, 2),
    "deit_3_small_224_21k.pth": (32, 2),
    "deit_3_base_224_21k.pth": (64, 4),
}


def make_workspace(folder: Path) -> None:
    """Fills a folder with the checkout's programs and with everything the documents name."""
    for name in CHECKED_OUT:
        (folder / name).symlink_to(ROOT / name)
    data = folder / "datasets"
    for name, num_classes in (("trees", 1), ("nuclei", 1), ("scenes-v1", 4), ("coco", 4)):
        for seed, split in enumerate(("train", "val")):
            _write_scenes(data / name, num_classes, seed, split)
        (data / name / "SOURCES.txt").write_text("Rendered for a test.\n")
    _rename_to_coco(data / "coco")
    own = _write_scenes(folder / "my", 2, seed=2, split="images")
    for split in ("train", "val"):
        (folder / "my" / f"{split}.json").write_text(json.dumps(own))
    photograph = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(photograph).save(folder / "photo.jpg")
    with VideoWriter(folder / "video.mp4", fps=5.0) as writer:
        for _ in range(2):
            writer.write(photograph)
    official = {"meta": {}, "state_dict": _official_weights()}
    for name in OFFICIAL_CHECKPOINTS:
        torch.save(official, folder / name)
    for name, (embed_dim, num_heads) in SINGLE_NETWORKS.items():
        sizes = {"embed_dim": embed_dim, "num_heads": num_heads, "depth": 4}
        network = ViTBranch(img_size=96, pretrain_img_size=96, **sizes)
        torch.save({"model": network.state_dict()}, folder / name)
    (data / "weights").mkdir()
    stem = stem_checkpoint(timm.create_model("tf_efficientnet_lite0").state_dict())
    torch.save(stem, data / "weights" / STEM_FILE)


def _write_scenes(root: Path, num_classes: int, seed: int, split: str) -> dict[str, Any]:
    options = SceneOptions(image_size=64, num_classes=num_classes, object_size=(16, 40))
    return write_scenes(root, options, 2, seed, split)


def _rename_to_coco(root: Path) -> None:
    categories = [entry for entry in COCO_CATEGORIES if entry["isthing"]]
    for split in ("train", "val"):
        file = root / "annotations" / f"{split}.json"
        content = json.loads(file.read_text()) | {"categories": categories}
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
        (root / split).rename(root / f"{split}2017")


def _official_weights() -> dict[str, Tensor]:
    """A small detector as the authors' code saves it, with the 80 classes of COCO."""
    backbone = BackboneCase("tsb3_window_global").weights
    heads = torch.load(FOLDER / "mask_rcnn_tiny.pt", weights_only=True)["state_dict"]
    width = backbone["merge_branch1.0.weight"].shape[0]
    for name, weight in heads.items():
        if name.startswith("neck.lateral_convs") and weight.dim() == 4:
            heads[name] = weight[:, :1].repeat(1, width, 1, 1)
        elif name.startswith(("roi_head.bbox_head.fc_cls", "roi_head.bbox_head.fc_reg")):
            rows = 81 if "fc_cls" in name else 320
            heads[name] = weight[:1].repeat(rows, *[1] * (weight.dim() - 1))
        elif name.startswith("roi_head.mask_head.conv_logits"):
            heads[name] = weight[:1].repeat(80, *[1] * (weight.dim() - 1))
    return {**{f"backbone.{name}": weight for name, weight in backbone.items()}, **heads}
