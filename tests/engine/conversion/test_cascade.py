"""Whole cascades from mmdetection's files to models that compute the same, and back."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from piip_d2.checkpoint import export_detector_state_dict
from piip_d2.checkpoint.network_layout import layout_of_network
from piip_d2.configs import get_config
from piip_d2.engine.checkpointer import AtomicCheckpointer
from piip_d2.engine.conversion import (
    ConversionError,
    build_without_memory,
    convert_checkpoint,
    match_weights,
)
from piip_d2.engine.conversion.matching import form_of_model
from piip_d2.engine.conversion.remarks import find_remarks
from tests.engine.conversion.official_weights import official_weights
from tests.golden.cases import FOLDER

FOLDER_OF_CONFIGS = Path(__file__).parent
AS_MMDET, PLAIN, FOUR_CONVOLUTIONS, MASK_RCNN = (
    str(FOLDER_OF_CONFIGS / f"official_{name}config.py")
    for name in ("cascade_", "cascade_plain_", "cascade_4conv_", "")
)
CASE = "tsb3_window_global"

pytestmark = pytest.mark.usefixtures("no_random_weights")


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return torch.load(FOLDER / "cascade_mask_rcnn_tiny.pt", weights_only=True)


@pytest.fixture(scope="module")
def weights(golden: dict[str, Any]) -> dict[str, Tensor]:
    """A detector as mmdetection saves it: a small backbone with fitting heads."""
    return official_weights(CASE, golden["state_dict"], "neck.lateral_convs")


@pytest.fixture
def source(tmp_path: Path, weights: dict[str, Tensor]) -> str:
    torch.save({"state_dict": weights}, tmp_path / "official.pth")
    return str(tmp_path / "official.pth")


def loaded_model(path: Path, config: str) -> nn.Module:
    model = instantiate(LazyConfig.load(config).model).eval()
    AtomicCheckpointer(model).load_for("evaluate", str(path))
    return model


@torch.no_grad()
def detect(model: nn.Module, golden: dict[str, Any]) -> Instances:
    """Runs the heads on the stored maps of the pyramid."""
    maps = {f"p{level}": x for level, x in enumerate(golden["neck"], start=2)}
    images = ImageList(torch.zeros(1, 3, *golden["pad"]), [tuple(golden["image_size"])])
    proposals, _ = model.proposal_generator(images, maps)
    (found,), _ = model.roi_heads(images, maps, proposals)
    return found


def test_converted_file_detects_what_the_reference_detected(
    tmp_path: Path, source: str, golden: dict[str, Any]
) -> None:
    output = tmp_path / "ours.pth"
    report = convert_checkpoint(source, AS_MMDET, output)
    model = loaded_model(output, AS_MMDET)
    assert sorted(report.matched) == sorted(model.state_dict())
    assert not report.dropped and not report.remarks

    found = detect(model, golden)
    boxes, scores = golden["dets"].split([4, 1], dim=1)
    distances = torch.cdist(found.pred_boxes.tensor, boxes, p=float("inf"))
    distances = distances + 1e3 * (found.pred_classes[:, None] != golden["labels"])
    nearest = distances.argmin(dim=0)
    assert len(found) == len(boxes) == len(nearest.unique())
    assert distances.amin(dim=0).max() < 1e-4
    torch.testing.assert_close(found.scores[nearest], scores[:, 0], atol=5e-6, rtol=0)
    masks = golden["masks"].mean(dim=0)
    torch.testing.assert_close(found.pred_masks[nearest, 0], masks, atol=1e-5, rtol=0)


def test_there_and_back(tmp_path: Path, source: str, weights: dict[str, Tensor]) -> None:
    ours, back = tmp_path / "ours.pth", tmp_path / "back.pth"
    convert_checkpoint(source, AS_MMDET, ours)
    report = convert_checkpoint(str(ours), AS_MMDET, back, to_official=True)
    official = torch.load(back, weights_only=True)["state_dict"]
    assert sorted(report.matched) == sorted(official) == sorted(weights)
    assert all(torch.equal(official[name], x) for name, x in weights.items())
    assert not report.remarks


def test_the_last_mask_head_becomes_the_only_one(
    tmp_path: Path, source: str, weights: dict[str, Tensor]
) -> None:
    ours, back, again = (tmp_path / f"{name}.pth" for name in ("ours", "back", "again"))
    report = convert_checkpoint(source, PLAIN, ours)
    earlier = [
        name
        for name in weights
        if name.startswith(("roi_head.mask_head.0", "roi_head.mask_head.1"))
    ]
    assert sorted(report.dropped) == sorted(earlier) and len(earlier) == 24
    converted = torch.load(ours, weights_only=True)["model"]
    taken = weights["roi_head.mask_head.2.convs.1.conv.bias"]
    assert torch.equal(converted["roi_heads.mask_head.mask_fcn2.bias"], taken)

    report = convert_checkpoint(str(ours), PLAIN, back, to_official=True)
    official = torch.load(back, weights_only=True)["state_dict"]
    assert set(official) == set(weights)
    assert sorted(report.added) == sorted(earlier)
    assert torch.equal(official["roi_head.mask_head.0.convs.1.conv.bias"], taken)
    assert all("results there will be others" in remark for remark in report.remarks)
    convert_checkpoint(str(back), PLAIN, again)
    once_more = torch.load(again, weights_only=True)["model"]
    assert all(torch.equal(once_more[name], x) for name, x in converted.items())


def test_overrides_in_the_remarks_cure_what_they_can(tmp_path: Path, source: str) -> None:
    output = tmp_path / "ours.pth"
    weights, scores, masks = convert_checkpoint(source, PLAIN, output).remarks
    assert (
        "stage 3 with 30.30303,30.30303,14.92537,14.92537, the config with 30,30,15,15" in weights
    )
    assert "averages the logits" in scores
    assert "a head for each stage" in masks
    overrides = [remark.split("give ")[1].split(";")[0] for remark in (weights, scores)]
    assert convert_checkpoint(source, PLAIN, output, overrides=overrides).remarks == [masks]


def test_convolutions_with_norms_and_boxes_per_class(
    tmp_path: Path, golden: dict[str, Any]
) -> None:
    torch.manual_seed(5)
    model = instantiate(LazyConfig.load(FOUR_CONVOLUTIONS).model).eval()
    with torch.no_grad():
        for x in [*model.parameters(), *model.roi_heads.box_head.buffers()]:
            x += (0.1 * (torch.rand(x.shape) - 0.3)).to(x.dtype)
    own, official, again = (tmp_path / f"{name}.pth" for name in ("own", "official", "again"))
    torch.save({"model": model.state_dict()}, own)
    convert_checkpoint(str(own), FOUR_CONVOLUTIONS, official, to_official=True)
    theirs = torch.load(official, weights_only=True)["state_dict"]
    for stage in range(3):
        head = f"roi_head.bbox_head.{stage}"
        ours = model.roi_heads.box_head[stage]
        for layer in range(4):
            conv = getattr(ours, f"conv{layer + 1}")
            convs = f"{head}.shared_convs.{layer}"
            assert torch.equal(theirs[f"{convs}.conv.weight"], conv.weight)
            assert torch.equal(theirs[f"{convs}.bn.running_var"], conv.norm.running_var)
            assert f"{convs}.conv.bias" not in theirs
        assert torch.equal(theirs[f"{head}.shared_fcs.0.weight"], ours.fc1.weight)
        assert theirs[f"{head}.fc_reg.weight"].shape[0] == 4 * 7
    assert torch.equal(
        theirs["rpn_head.rpn_conv.1.conv.bias"], model.proposal_generator.rpn_head.conv.conv1.bias
    )

    report = convert_checkpoint(str(official), FOUR_CONVOLUTIONS, again)
    assert report.is_complete and not report.dropped and not report.remarks
    found = detect(loaded_model(again, FOUR_CONVOLUTIONS), golden)
    expected = detect(model, golden)
    assert len(expected) > 0
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(found.pred_masks, expected.pred_masks)


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        (MASK_RCNN, [], "of a Cascade R-CNN with masks, but the config's model is a Mask R-CNN"),
        (
            AS_MMDET,
            ["model.proposal_generator.head.conv_dims=[-1,-1]"],
            "1 convolutions in the RPN, but the config has 2: give .*conv_dims 1 entries of -1",
        ),
        (AS_MMDET, ["model.roi_heads.num_classes=5"], "give model.roi_heads.num_classes=7 "),
        (
            AS_MMDET,
            [f"model.roi_heads.box_predictors.{n}.cls_agnostic_bbox_reg=False" for n in range(3)],
            "for all classes alike, but the config for every class: .*cls_agnostic_bbox_reg=True",
        ),
        (FOUR_CONVOLUTIONS, [], "1 convolutions in the RPN, but the config has 2"),
        (
            FOUR_CONVOLUTIONS,
            ["model.proposal_generator.head.conv_dims=[-1]"],
            "0 convolutions in a box head, but the config has 4",
        ),
    ],
)
def test_other_heads_are_told(
    tmp_path: Path, source: str, config: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConversionError, match=message):
        convert_checkpoint(source, config, tmp_path / "ours.pth", overrides=overrides)
    assert not (tmp_path / "ours.pth").exists()


@pytest.mark.parametrize(
    ("config", "stage", "message"),
    [
        (AS_MMDET, 1, "these weights have 2 numbered mask heads, but the config has 3: "),
        (PLAIN, 2, "have no mask head for the last stage, which is the config's only one"),
    ],
)
def test_mask_heads_that_are_not_there(
    tmp_path: Path, weights: dict[str, Tensor], config: str, stage: int, message: str
) -> None:
    head = f"roi_head.mask_head.{stage}."
    others = {name: x for name, x in weights.items() if not name.startswith(head)}
    torch.save(others, tmp_path / "official.pth")
    with pytest.raises(ConversionError, match=message):
        convert_checkpoint(str(tmp_path / "official.pth"), config, tmp_path / "ours.pth")


def test_a_fourth_stage_is_remarked() -> None:
    cfg = LazyConfig.load(AS_MMDET)
    heads = cfg.model.roi_heads
    for parts in ("box_heads", "box_predictors", "proposal_matchers", "mask_head"):
        heads[parts].append(copy.deepcopy(heads[parts][2]))
    heads.stage_loss_weights.append(0.125)
    model = build_without_memory(cfg)
    (remark,) = find_remarks(model, form_of_model(model))
    assert remark.startswith("mmdetection's weights of box deltas are known here for 3 stages")
    assert "the config has 4: compare" in remark


@pytest.mark.parametrize("name", ["as_mmdet", "4conv_as_mmdet"])
def test_nothing_is_remarked_of_configs_as_mmdetection(name: str) -> None:
    model = build_without_memory(get_config(f"cascade_rcnn/piip_sbl_1568_1120_672_1x_{name}"))
    layout = layout_of_network(model.backbone.bottom_up)
    official = export_detector_state_dict(model.state_dict(), "cascade_mask_rcnn", layout)
    match = match_weights(official, model)
    assert sorted(match.report.matched) == sorted(model.state_dict())
    assert not find_remarks(model, match.form)
