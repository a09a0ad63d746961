"""Test-time augmentation: as Detectron2's class does it, on the views that ``train.tta`` names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import LazyCall, instantiate
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.structures import Instances
from omegaconf import DictConfig
from torch import nn

from piip_d2.data.overrides import apply_data_section
from piip_d2.engine import evaluate_checkpoint, load_config, set_up_run
from piip_d2.engine.test_time_augmentation import TestTimeAugmentation
from tests.configs.loading import CONFIGS
from tests.conftest import TinyCoco
from tests.engine.runs import undone_process_state

MASKS = "mask_rcnn_scenes"


def _config(tiny_coco: TinyCoco, folder: Path, *overrides: str, name: str = MASKS) -> DictConfig:
    cfg = load_config(
        str(CONFIGS / "quick" / f"{name}.py"),
        [
            f"data.train={tiny_coco.json_file}",
            f"data.val={tiny_coco.json_file}",
            f"data.images={tiny_coco.image_root}",
            "dataloader.test.num_workers=0",
            f"train.output_dir={folder}",
            "train.device=cpu",
            "train.tta.enabled=True",
            *overrides,
        ],
    )
    apply_data_section(cfg)
    return cfg


def _model(cfg: DictConfig) -> nn.Module:
    torch.manual_seed(0)
    if "roi_heads" in cfg.model and "box_predictor" in cfg.model.roi_heads:
        # Without training, all scores lie around 1/3.
        cfg.model.roi_heads.box_predictor.test_score_thresh = 0.3
    model: nn.Module = instantiate(cfg.model).eval()
    return model


def _predict(model: nn.Module, cfg: DictConfig) -> list[Instances]:
    with torch.no_grad():
        return [model(batch)[0]["instances"] for batch in instantiate(cfg.dataloader.test)]


def test_one_view_gives_what_the_model_gives(tiny_coco: TinyCoco, tmp_path: Path) -> None:
    cfg = _config(tiny_coco, tmp_path, "train.tta.scales=[1]", "train.tta.flip=False")
    model = _model(cfg)
    expected = _predict(model, cfg)
    augmentation = TestTimeAugmentation(cfg)
    assert augmentation.num_views == 1
    found = _predict(augmentation.wrap(model), cfg)
    assert sum(len(instances) for instances in found) > 0
    for ours, plain in zip(found, expected, strict=True):
        assert ours.image_size == plain.image_size
        torch.testing.assert_close(ours.pred_boxes.tensor, plain.pred_boxes.tensor)
        torch.testing.assert_close(ours.scores, plain.scores)
        assert (ours.pred_masks == plain.pred_masks).float().mean() > 0.999


def test_views_have_the_sizes_that_the_scales_say(tiny_coco: TinyCoco, tmp_path: Path) -> None:
    cfg = _config(tiny_coco, tmp_path, "train.tta.scales=[0.5,1.25]")
    plain = [batch[0]["image"].shape for batch in instantiate(cfg.dataloader.test)]
    augmentation = TestTimeAugmentation(cfg)
    assert augmentation.num_views == 4
    seen: list[Any] = []
    model = _model(cfg)
    inference = model.inference

    def noting(inputs: list[Any], *args: Any, **kwargs: Any) -> Any:
        if args == (None,):
            seen.append([sample["image"] for sample in inputs])
        return inference(inputs, *args, **kwargs)

    model.inference = noting
    _predict(augmentation.wrap(model), cfg)
    assert len(seen) == 2 * len(plain)
    for index, (_, height, width) in enumerate(plain):
        for batch, scale in zip(seen[2 * index : 2 * index + 2], (0.5, 1.25), strict=True):
            view, flipped = batch
            assert torch.equal(view.flip(2), flipped)
            assert abs(view.shape[1] - scale * height) <= 1
            assert abs(view.shape[2] - scale * width) <= 1


@pytest.mark.parametrize("side", [96, [96, 96]])
@pytest.mark.parametrize("limit", [{}, {"max_size": 120}])
def test_size_in_every_form_that_detectron2_takes(
    tiny_coco: TinyCoco, tmp_path: Path, side: Any, limit: dict[str, int]
) -> None:
    cfg = _config(tiny_coco, tmp_path, "train.tta.scales=[1]", "train.tta.flip=False")
    resize = LazyCall(ResizeShortestEdge)(short_edge_length=side, **limit)
    cfg.dataloader.test.mapper.augmentations = [resize]
    expected = [batch[0]["image"].shape for batch in instantiate(cfg.dataloader.test)]
    seen: list[Any] = []
    model = _model(cfg)
    inference = model.inference

    def noting(inputs: list[Any], *args: Any, **kwargs: Any) -> Any:
        seen.extend(sample["image"].shape for sample in inputs if args == (None,))
        return inference(inputs, *args, **kwargs)

    model.inference = noting
    _predict(TestTimeAugmentation(cfg).wrap(model), cfg)
    assert seen == expected


def test_views_are_made_of_the_pixels_of_the_file(tiny_coco: TinyCoco, tmp_path: Path) -> None:
    cfg = _config(tiny_coco, tmp_path)
    TestTimeAugmentation(cfg)
    sizes = [batch[0]["image"].shape[1:] for batch in instantiate(cfg.dataloader.test)]
    assert sizes == [(64, 96), (96, 64), (80, 80), (72, 120)]
    assert cfg.dataloader.test.device == "cpu"


@pytest.mark.parametrize("name", ["faster_rcnn_scenes", "cascade_rcnn_scenes"])
def test_other_detectors(tiny_coco: TinyCoco, tmp_path: Path, name: str) -> None:
    cfg = _config(tiny_coco, tmp_path, "train.tta.scales=[1]", name=name)
    model = TestTimeAugmentation(cfg).wrap(_model(cfg))
    found = _predict(model, cfg)
    assert len(found) == tiny_coco.num_images
    assert found[0].image_size == (64, 96)
    assert found[0].has("pred_masks") == (name == "cascade_rcnn_scenes")


def test_evaluation_alone_with_a_switch(tiny_coco: TinyCoco, tmp_path: Path) -> None:
    options = ["train.tta.scales=[0.5]", "train.init_checkpoint="]
    cfg = _config(tiny_coco, tmp_path, *options)
    cfg.model.roi_heads.box_predictor.test_score_thresh = 0.3
    with undone_process_state():
        results = evaluate_checkpoint(cfg, set_up_run(cfg))
    assert set(results) == {"bbox", "segm", "inference"}
    assert "predicted in 2 views" in (tmp_path / "log.txt").read_text()
    assert json.loads((tmp_path / "results.json").read_text())["bbox"]["AR100"] is not None


def test_dino_is_refused(tiny_coco: TinyCoco, tmp_path: Path) -> None:
    cfg = _config(tiny_coco, tmp_path, name="dino_scenes")
    augmentation = TestTimeAugmentation(cfg)
    with pytest.raises(ValueError, match=r"got DINO, .* evaluate it with train.tta.enabled=False"):
        augmentation.wrap(_model(cfg))


@pytest.mark.parametrize("scales", ["[]", "[1,0]", "[a,b]", "[true]", "1", "null", "[nan]"])
def test_senseless_scales(tiny_coco: TinyCoco, tmp_path: Path, scales: str) -> None:
    cfg = _config(tiny_coco, tmp_path, f"train.tta.scales={scales}")
    with pytest.raises(ValueError, match="tta.scales must be factors above 0, such as .*, got"):
        TestTimeAugmentation(cfg)


def test_data_without_a_size(tiny_coco: TinyCoco, tmp_path: Path) -> None:
    cfg = _config(tiny_coco, tmp_path)
    cfg.dataloader.test.mapper.augmentations = []
    with pytest.raises(ValueError, match="needs a ResizeShortestEdge"):
        TestTimeAugmentation(cfg)
