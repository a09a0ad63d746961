"""Names of cascades in mmdetection, and in Detectron2."""

from __future__ import annotations

import pytest
import torch

from piip_d2.checkpoint import convert_detector_state_dict, export_detector_state_dict
from tests.golden.cases import FOLDER

# Written down from the documentation of both, one of a kind.
NAMES = {
    "rpn_head.rpn_conv.0.conv.weight": "proposal_generator.rpn_head.conv.conv0.weight",
    "roi_head.bbox_head.0.shared_convs.0.conv.weight": "roi_heads.box_head.0.conv1.weight",
    "roi_head.bbox_head.0.shared_convs.0.bn.bias": "roi_heads.box_head.0.conv1.norm.bias",
    "roi_head.bbox_head.0.shared_convs.0.bn.running_mean": (
        "roi_heads.box_head.0.conv1.norm.running_mean"
    ),
    "roi_head.bbox_head.1.shared_fcs.0.bias": "roi_heads.box_head.1.fc1.bias",
    "roi_head.bbox_head.2.fc_cls.weight": "roi_heads.box_predictor.2.cls_score.weight",
    "roi_head.bbox_head.2.fc_reg.bias": "roi_heads.box_predictor.2.bbox_pred.bias",
    "roi_head.mask_head.0.convs.3.conv.weight": "roi_heads.mask_head.0.mask_fcn4.weight",
    "roi_head.mask_head.1.convs.0.gn.weight": "roi_heads.mask_head.1.mask_fcn1.norm.weight",
    "roi_head.mask_head.1.upsample.bias": "roi_heads.mask_head.1.deconv.bias",
    "roi_head.mask_head.2.conv_logits.weight": "roi_heads.mask_head.2.predictor.weight",
}


@pytest.mark.parametrize(("official", "ours"), NAMES.items())
def test_names(official: str, ours: str) -> None:
    converted = convert_detector_state_dict({official: torch.ones(1)}, "cascade_mask_rcnn")
    assert list(converted) == [ours]


def test_batch_norms_and_group_norms_in_one_detector() -> None:
    weights = {name: torch.full((1,), float(n)) for n, name in enumerate(NAMES)}
    converted = convert_detector_state_dict(weights, "cascade_mask_rcnn")
    assert converted.keys() == set(NAMES.values())
    back = export_detector_state_dict(converted, "cascade_mask_rcnn")
    assert back == weights


def test_the_last_of_the_mask_heads_is_the_only_one() -> None:
    weights = {f"roi_head.mask_head.{n}.upsample.bias": torch.tensor(n) for n in range(3)}
    weights["roi_head.bbox_head.2.fc_cls.bias"] = torch.tensor(9)
    converted = convert_detector_state_dict(weights, "cascade_mask_rcnn", has_mask_ensemble=False)
    assert converted.pop("roi_heads.mask_head.deconv.bias") == 2
    assert list(converted) == ["roi_heads.box_predictor.2.cls_score.bias"]
    with pytest.raises(KeyError, match="mask_head"):
        convert_detector_state_dict(weights, "cascade_rcnn")


def test_an_earlier_mask_head_does_not_become_the_only_one() -> None:
    weights = {f"roi_head.mask_head.{n}.upsample.bias": torch.tensor(n) for n in range(2)}
    weights["roi_head.bbox_head.2.fc_cls.bias"] = torch.tensor(9)
    converted = convert_detector_state_dict(weights, "cascade_mask_rcnn", has_mask_ensemble=False)
    assert list(converted) == ["roi_heads.box_predictor.2.cls_score.bias"]


def test_every_stored_weight_there_and_back() -> None:
    weights = torch.load(FOLDER / "cascade_mask_rcnn_tiny.pt", weights_only=True)["state_dict"]
    converted = convert_detector_state_dict(weights, "cascade_mask_rcnn")
    assert len(converted) == len(weights)
    back = export_detector_state_dict(converted, "cascade_mask_rcnn")
    assert set(back) == set(weights) and all(back[name] is x for name, x in weights.items())
