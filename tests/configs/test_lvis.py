"""LVIS: the settings of Detectron2's configs for it, and a run on a few images."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate

from piip_d2 import _optional
from piip_d2.data.overrides import apply_data_section
from piip_d2.engine import evaluate_checkpoint, load_config, set_up_run, train
from tests.configs.loading import CONFIGS, build, load_once
from tests.configs.test_common import common
from tests.conftest import TinyCoco
from tests.engine.runs import undone_process_state

NAME = "lvis/mask_rcnn_piip_tsb_1120_896_448"


def test_settings_are_those_of_detectron2() -> None:
    cfg = load_once(NAME)
    predictor = build(NAME).roi_heads.box_predictor
    assert predictor.use_fed_loss and predictor.use_sigmoid_ce
    assert predictor.cls_score.out_features == 1204
    assert predictor.fed_loss_cls_weights.shape == (1203,)
    assert (predictor.test_score_thresh, predictor.test_topk_per_image) == (0.02, 300)
    assert build(NAME).roi_heads.mask_head.predictor.out_channels == 1203
    scheduler = instantiate(cfg.lr_multiplier.scheduler)
    drops = [scheduler(iteration / 180_000) for iteration in (119_999, 120_000, 160_000)]
    assert drops == pytest.approx([1, 0.1, 0.01])


@pytest.mark.skipif(not _optional.available("faster_coco_eval"), reason="needs faster-coco-eval")
def test_trains_and_evaluates(tiny_coco: TinyCoco, tmp_path: Path) -> None:
    json_file = _write_lvis(tiny_coco, tmp_path)
    cfg = load_config(
        str(CONFIGS / f"{NAME}.py"),
        [
            f"data.train={json_file}",
            f"data.val={json_file}",
            f"data.images={Path(tiny_coco.image_root).parent}",
            "dataloader.train.total_batch_size=2",
            "dataloader.train.num_workers=0",
            "dataloader.test.num_workers=0",
            "model.roi_heads.box_predictor.test_score_thresh=0.001",
            "model.roi_heads.box_predictor.fed_loss_num_classes=2",
            f"train.output_dir={tmp_path}/run",
            "train.device=cpu",
            "train.max_iter=2",
        ],
    )
    quick = common("models.quick_piip")
    quick.use_quick_piip(cfg.model, num_classes=1203)
    common("data.detection").set_image_size(cfg.dataloader, long_side=128, short_side=128)
    apply_data_section(cfg)
    evaluated = copy.deepcopy(cfg)
    with undone_process_state():
        results = train(cfg, set_up_run(cfg))
    assert {"APr", "APc", "APf", "AR300"} <= set(results["segm"])
    path = tmp_path / "run" / "model_final.pth"
    weights = torch.load(path, weights_only=True)["model"]
    # Two images show red, and two blue.
    counts = torch.tensor([2.0, 2.0])
    saved = weights["roi_heads.box_predictor.fed_loss_cls_weights"]
    torch.testing.assert_close(saved, counts.sqrt())
    evaluated.train.init_checkpoint = str(path)
    evaluated.train.output_dir = f"{tmp_path}/alone"
    with undone_process_state():
        again = evaluate_checkpoint(evaluated, set_up_run(evaluated))
    assert again["bbox"] == pytest.approx(results["bbox"], nan_ok=True)
    written = json.loads((tmp_path / "alone" / "inference" / "per_class.json").read_text())
    assert [row["name"] for row in written["segm"]] == ["red", "blue"]


def _write_lvis(tiny_coco: TinyCoco, folder: Path) -> Path:
    """The tiny data set in LVIS' format, with addresses in the place of file names."""
    content = json.loads(Path(tiny_coco.json_file).read_text())
    for image in content["images"]:
        name = image.pop("file_name")
        image["coco_url"] = f"http://images.org/{Path(tiny_coco.image_root).name}/{name}"
        image["neg_category_ids"] = image["not_exhaustive_category_ids"] = []
    for category, frequency in zip(content["categories"], "rf", strict=True):
        category["frequency"] = frequency
    json_file = folder / "lvis.json"
    json_file.write_text(json.dumps(content))
    return json_file
