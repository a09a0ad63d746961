"""The stored DINO, its inputs and its targets; detectors on a small backbone."""

from __future__ import annotations

import functools
from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from piip_d2.checkpoint import convert_detector_state_dict
from piip_d2.modeling import DINO, ChannelMapper, build_piip
from piip_d2.modeling.backbone import ViTBranch
from piip_d2.modeling.dino import (
    ContrastiveDenoising,
    DenoisingQueries,
    DINOCriterion,
    HungarianMatcher,
    Targets,
    TransformerOutput,
    build_dino_transformer,
    join_targets,
)
from tests.golden.cases import FOLDER

# Names of the losses in the released code: what follows our prefix, by what precedes theirs.
LOSSES = {"cls": "class", "bbox": "bbox", "iou": "giou"}


@functools.cache
def load_golden() -> dict[str, Any]:
    """The stored data; for reading only."""
    return torch.load(FOLDER / "dino_tiny.pt", weights_only=True)


class StoredMaps(Backbone):
    """Gives out the stored maps in place of a network's."""

    def __init__(self, maps: list[Tensor]) -> None:
        super().__init__()
        self.maps = {f"res{level}": x for level, x in enumerate(maps, start=3)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.maps

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            name: ShapeSpec(channels=x.shape[1], stride=2 ** int(name[-1]))
            for name, x in self.maps.items()
        }

    @property
    def size_divisibility(self) -> int:
        return 32


class SmallBackbone(Backbone):
    """Patches of 4 pixels, each level made by one convolution."""

    def __init__(self, channels: int = 12, square_size: int = 0) -> None:
        super().__init__()
        self.square_size = square_size
        self.stem = nn.Conv2d(3, channels, 4, stride=4)
        self.levels = nn.ModuleList(nn.Conv2d(channels, channels, 2, stride=2) for _ in range(3))
        self.channels = channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.stem(images)
        maps = {"res2": x}
        for number, level in enumerate(self.levels, start=3):
            x = level(x.relu())
            maps[f"res{number}"] = x
        return maps

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            f"res{number}": ShapeSpec(channels=self.channels, stride=2**number)
            for number in range(2, 6)
        }

    @property
    def size_divisibility(self) -> int:
        return 64

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {"square_size": self.square_size}


def build_golden_model() -> DINO:
    """The detector that the data was made with."""
    golden = load_golden()
    cfg = golden["cfg"]
    model = DINO(
        backbone=ChannelMapper(
            StoredMaps(golden["backbone_feats"]),
            ["res3", "res4", "res5"],
            cfg["dim"],
            num_groups=cfg["neck_groups"],
        ),
        transformer=build_dino_transformer(
            num_classes=cfg["num_classes"],
            embed_dim=cfg["dim"],
            num_heads=cfg["heads"],
            num_points=cfg["points"],
            feedforward_dim=cfg["ffn"],
            num_encoder_layers=cfg["enc"],
            num_decoder_layers=cfg["dec"],
            num_queries=cfg["num_queries"],
            position_temperature=cfg["pe_temperature"],
        ),
        criterion=DINOCriterion(HungarianMatcher()),
        denoising=ContrastiveDenoising(
            cfg["num_classes"],
            cfg["dim"],
            cfg["num_dn_queries"],
            cfg["label_noise"],
            cfg["box_noise"],
        ),
        num_classes=cfg["num_classes"],
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
        topk_per_image=cfg["topk"],
    )
    converted = convert_detector_state_dict(golden["state_dict"], "dino")
    model.load_state_dict(converted, strict=True)
    return model


def build_small_model(
    *,
    num_levels: int = 4,
    num_queries: int = 30,
    embed_dim: int = 32,
    square_size: int = 0,
    use_encoder_act_checkpoint: bool = False,
    use_decoder_act_checkpoint: bool = False,
    **options: Any,
) -> DINO:
    """A detector with random weights on a network of convolutions."""
    in_features = [f"res{number}" for number in range(7 - num_levels, 6)]
    return DINO(
        backbone=ChannelMapper(
            SmallBackbone(square_size=square_size),
            in_features,
            embed_dim,
            num_levels=num_levels,
            num_groups=8,
        ),
        transformer=build_dino_transformer(
            num_classes=5,
            num_levels=num_levels,
            embed_dim=embed_dim,
            num_heads=4,
            feedforward_dim=48,
            num_encoder_layers=2,
            num_decoder_layers=3,
            num_queries=num_queries,
            use_encoder_act_checkpoint=use_encoder_act_checkpoint,
            use_decoder_act_checkpoint=use_decoder_act_checkpoint,
        ),
        criterion=DINOCriterion(HungarianMatcher()),
        denoising=ContrastiveDenoising(5, embed_dim, num_queries=10),
        num_classes=5,
        pixel_mean=[120.0] * 3,
        pixel_std=[60.0] * 3,
        **options,
    )


def build_small_pyramid() -> DINO:
    """A detector on two small ViTs that interact."""
    torch.manual_seed(0)
    detector = build_small_model()
    branches = [
        ViTBranch(img_size=size, embed_dim=width, depth=2, num_heads=2, window_size=3)
        for size, width in ((128, 16), (64, 32))
    ]
    piip = build_piip(
        branches,
        num_interactions=2,
        num_heads=2,
        out_features=["res3", "res4", "res5"],
        size_divisibility=64,
        interaction_drop_path_rate=0.0,
    )
    detector.backbone = ChannelMapper(piip, ["res3", "res4", "res5"], 32, num_groups=8)
    return detector


def golden_targets(*, last_is_empty: bool = False) -> Targets:
    """The stored objects."""
    golden = load_golden()
    boxes, labels = list(golden["gt"]), list(golden["gt_labels"])
    if last_is_empty:
        boxes[-1], labels[-1] = boxes[-1][:0], labels[-1][:0]
    return join_targets(
        [make_instances(*one) for one in zip(golden["sizes"], boxes, labels, strict=True)]
    )


def make_instances(size: tuple[int, int], boxes: Tensor, labels: Tensor) -> Instances:
    """What a mapper gives for training."""
    return Instances(size, gt_boxes=Boxes(boxes), gt_classes=labels)


def stored_noise() -> DenoisingQueries:
    """The stored denoising queries."""
    golden = load_golden()
    return DenoisingQueries(
        golden["dn_label_query"],
        golden["dn_bbox_query"],
        num_groups=golden["dn_meta"]["num_dn_group"],
        num_places=max(len(labels) for labels in golden["gt_labels"]),
    )


def run_golden(model: DINO, noisy: DenoisingQueries | None) -> TransformerOutput:
    """Runs all behind the backbone on the stored maps."""
    golden = load_golden()
    maps = model.backbone(torch.zeros(2, 3, *golden["pad"]))
    return model.transformer(list(maps.values()), golden["sizes"], golden["pad"], noisy)


def our_name(official: str) -> str:
    """The name of a loss: ``d0.dn_loss_cls`` is ``loss_class_dn_0``."""
    layer, _, term = official.rpartition(".")
    suffix = f"_{layer.removeprefix('d')}" if layer else ""
    for prefix, ours in (("interm_", "_enc"), ("dn_", "_dn")):
        if term.startswith(prefix):
            term, suffix = term.removeprefix(prefix), ours + suffix
    return f"loss_{LOSSES[term.removeprefix('loss_')]}{suffix}"


def make_input(size: tuple[int, int], num_objects: int) -> dict[str, Any]:
    """An image of noise with random boxes, as a mapper gives it."""
    height, width = size
    corners = torch.rand(num_objects, 2, 2).sort(dim=1).values
    boxes = corners.flatten(1) * torch.tensor([width, height, width, height])
    labels = torch.randint(5, (num_objects,))
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return {"image": image, "instances": make_instances(size, boxes, labels)}


def disturb(model: nn.Module) -> None:
    """Moves weights away from the zeros that some of them start with."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
