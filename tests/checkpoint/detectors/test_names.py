"""Converted Mask R-CNN heads detect what mmdetection's heads detected."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from detectron2.model_zoo import get_config
from detectron2.modeling import Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from piip_d2.checkpoint import convert_detector_state_dict, export_detector_state_dict
from piip_d2.modeling import PIIPFPN
from tests.golden.cases import FOLDER

NUM_CLASSES = 7


class StoredMaps(Backbone):
    """Gives out stored maps in place of a network's."""

    def __init__(self, maps: list[Tensor]) -> None:
        super().__init__()
        self.maps = {f"res{level}": x for level, x in enumerate(maps, start=2)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.maps

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            name: ShapeSpec(channels=x.shape[1], stride=2 ** (level + 2))
            for level, (name, x) in enumerate(self.maps.items())
        }

    @property
    def size_divisibility(self) -> int:
        return 64

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {"size_divisibility": 64, "square_size": 0}


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return torch.load(FOLDER / "mask_rcnn_tiny.pt", weights_only=True)


@pytest.fixture(scope="module")
def model(golden: dict[str, Any]) -> nn.Module:
    cfg = get_config("common/models/mask_rcnn_fpn.py").model
    weights = golden["state_dict"]
    cfg.backbone = None
    cfg.proposal_generator.head.in_channels = 32
    cfg.roi_heads.num_classes = NUM_CLASSES
    cfg.roi_heads.box_head.input_shape.channels = 32
    cfg.roi_heads.box_head.fc_dims = [weights["roi_head.bbox_head.fc_cls.weight"].shape[1]] * 2
    cfg.roi_heads.box_predictor.input_shape.channels = cfg.roi_heads.box_head.fc_dims[-1]
    cfg.roi_heads.mask_head.input_shape.channels = 32
    cfg.roi_heads.mask_head.conv_dims = [
        weights["roi_head.mask_head.convs.0.conv.weight"].shape[0]
    ] * 5
    bottom_up = StoredMaps(golden["backbone_feats"])
    model = nn.Module()
    model.backbone = PIIPFPN(bottom_up, list(bottom_up.maps), 32, top_block=LastLevelMaxPool())
    model.proposal_generator = instantiate(cfg.proposal_generator)
    model.roi_heads = instantiate(cfg.roi_heads)
    converted = convert_detector_state_dict(weights, "mask_rcnn")
    model.load_state_dict(converted, strict=True)
    return model.eval()


@torch.no_grad()
def test_detections(golden: dict[str, Any], model: nn.Module) -> None:
    height, width = golden["image_size"]
    images = ImageList(torch.zeros(1, 3, *golden["pad"]), [(height, width)])
    features = model.backbone(images.tensor)
    for feature, expected in zip(features.values(), golden["neck"], strict=True):
        torch.testing.assert_close(feature, expected, atol=1e-5, rtol=1e-5)

    proposals, _ = model.proposal_generator(images, features)
    assert_same_boxes(proposals[0].proposal_boxes.tensor, golden["proposals"][:, :4])

    detections, _ = model.roi_heads(images, features, proposals)
    compare_detections(detections[0], golden)


def compare_detections(detections: Instances, golden: dict[str, Any]) -> None:
    # Scores tie closely in a random network, so detections are compared in the order of boxes.
    expected_order = order(golden["dets"][:, :4], golden["labels"])
    actual_order = order(detections.pred_boxes.tensor, detections.pred_classes)
    boxes = detections.pred_boxes.tensor[actual_order]
    torch.testing.assert_close(boxes, golden["dets"][expected_order, :4], atol=1e-4, rtol=0)
    torch.testing.assert_close(
        detections.scores[actual_order], golden["dets"][expected_order, 4], atol=5e-6, rtol=0
    )
    assert torch.equal(detections.pred_classes[actual_order], golden["labels"][expected_order])
    torch.testing.assert_close(
        detections.pred_masks[actual_order, 0], golden["masks"][expected_order], atol=1e-5, rtol=0
    )


def order(boxes: Tensor, labels: Tensor) -> Tensor:
    rows = [(int(label), *map(float, box)) for box, label in zip(boxes, labels, strict=True)]
    return torch.tensor(sorted(range(len(rows)), key=rows.__getitem__))


def assert_same_boxes(actual: Tensor, expected: Tensor) -> None:
    """Every box of one set stands in the other."""
    assert actual.shape == expected.shape
    distances = torch.cdist(actual, expected, p=float("inf"))
    assert distances.amin(dim=0).max() < 1e-4
    assert distances.amin(dim=1).max() < 1e-4


@pytest.mark.parametrize(
    ("official", "ours"),
    [
        ("backbone.w2", "backbone.bottom_up.merge.weights.1"),
        (
            "backbone.branch3.blocks.4.gamma_2",
            "backbone.bottom_up.branches.2.blocks.4.ls2.gamma",
        ),
        (
            "backbone.interactions.1.interaction_units_23.branch1to2_injector.attn.value_proj.bias",
            "backbone.bottom_up.interactions.1.units.1.low_to_high.attn.deform.value_proj.bias",
        ),
        ("neck.fpn_convs.2.gn.weight", "backbone.fpn_output4.norm.weight"),
        ("rpn_head.rpn_conv.1.conv.bias", "proposal_generator.rpn_head.conv.conv1.bias"),
        ("roi_head.bbox_head.shared_convs.0.bn.bias", "roi_heads.box_head.conv1.norm.bias"),
    ],
)
def test_names(official: str, ours: str) -> None:
    assert list(convert_detector_state_dict({official: torch.zeros(1)}, "mask_rcnn")) == [ours]


def test_masks_are_unknown_to_faster_rcnn() -> None:
    with pytest.raises(KeyError, match="mask_head"):
        convert_detector_state_dict(
            {"roi_head.mask_head.upsample.weight": torch.zeros(1)}, "faster_rcnn"
        )


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind must be one of"):
        convert_detector_state_dict({}, "yolo")


def test_heads_there_and_back(golden: dict[str, Any]) -> None:
    converted = convert_detector_state_dict(golden["state_dict"], "mask_rcnn")
    back = export_detector_state_dict(converted, "mask_rcnn")
    assert set(back) == set(golden["state_dict"])
    assert all(torch.equal(back[name], x) for name, x in golden["state_dict"].items())


def test_dino_there_and_back() -> None:
    weights = torch.load(FOLDER / "dino_tiny.pt", weights_only=True)["state_dict"]
    converted = convert_detector_state_dict(weights, "dino")
    assert len(converted) == len(weights)
    # The head of the encoder is the last one, behind those of three layers of the decoder.
    last = "bbox_head.reg_branches.3.4.bias"
    assert converted["transformer.heads.3.bbox_embed.layers.2.bias"] is weights[last]
    back = export_detector_state_dict(converted, "dino")
    assert list(back) == list(weights)
    assert all(back[name] is x for name, x in weights.items())


def test_a_backbone_needs_its_configuration_on_the_way_back() -> None:
    weights = {"backbone.bottom_up.branches.0.pos_embed": torch.zeros(1)}
    with pytest.raises(ValueError, match="got none for 1 weights"):
        export_detector_state_dict(weights, "mask_rcnn")


@pytest.mark.parametrize("norm", ["bn", "gn"])
def test_heads_with_norms_there_and_back(norm: str) -> None:
    names = ["roi_head.bbox_head.shared_convs.2.conv.weight", "neck.fpn_convs.0.conv.weight"]
    for layer in ("roi_head.bbox_head.shared_convs.2", "neck.fpn_convs.0"):
        statistics = ["running_mean"] if norm == "bn" else []
        names += [f"{layer}.{norm}.{part}" for part in ("weight", *statistics)]
    converted = convert_detector_state_dict({name: torch.zeros(1) for name in names}, "mask_rcnn")
    assert "backbone.fpn_output2.norm.weight" in converted
    back = export_detector_state_dict(converted, "mask_rcnn", {"type": "vit_models"})
    assert set(back) == set(names)


def test_copies_of_a_moving_average_are_dropped() -> None:
    weights = dict.fromkeys(["rpn_head.rpn_cls.bias", "roi_head.bbox_head.fc_cls.bias"], 1.0)
    weights = {name: torch.tensor(x) for name, x in weights.items()}
    copies = {f"ema_{name.replace('.', '_')}": 2 * x for name, x in weights.items()}
    converted = convert_detector_state_dict({**copies, **weights}, "mask_rcnn")
    assert list(converted.values()) == [1.0, 1.0]


def test_names_like_those_of_a_moving_average_are_unknown() -> None:
    weights = {name: torch.ones(1) for name in ("rpn_head.rpn_cls.bias", "ema_rpn_head_what")}
    with pytest.raises(KeyError, match="ema_rpn_head_what"):
        convert_detector_state_dict(weights, "mask_rcnn")
