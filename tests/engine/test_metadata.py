"""What a checkpoint says about itself."""

from __future__ import annotations

import io

import pytest
import torch
from detectron2.data import MetadataCatalog
from omegaconf import OmegaConf
from torch import nn

import piip_d2
from piip_d2.engine.metadata import check_num_classes, describe_run, differences


class _Detector(nn.Module):
    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1))
        self.register_buffer("pixel_std", torch.tensor([4.0, 5.0, 6.0]).view(3, 1, 1))
        self.roi_heads = nn.Module()
        self.roi_heads.num_classes = num_classes
        self.backbone = nn.Module()
        self.backbone.num_classes = 1000
        self.backbone.branches = nn.ModuleList(nn.Module() for _ in range(2))
        for branch, size in zip(self.backbone.branches, (64, 128), strict=True):
            branch.img_size = size


@pytest.fixture
def dataset() -> str:
    name = "metadata_test"
    if name in MetadataCatalog.list():
        MetadataCatalog.remove(name)
    metadata = MetadataCatalog.get(name)
    metadata.thing_classes = ["tree", "house"]
    metadata.thing_dataset_id_to_contiguous_id = {3: 1, 7: 0}
    return name


def test_description(dataset: str) -> None:
    cfg = OmegaConf.create(
        {
            "dataloader": {
                "train": {
                    "dataset": {"names": dataset},
                    "mapper": {"image_format": "RGB", "later": "???"},
                }
            }
        }
    )
    description = describe_run(cfg, _Detector(), "train: {}")
    assert description == {
        "package_version": piip_d2.__version__,
        "class_names": ["tree", "house"],
        "category_ids": [7, 3],
        "resolutions": [128, 64],
        "pixel_mean": [1.0, 2.0, 3.0],
        "pixel_std": [4.0, 5.0, 6.0],
        "channel_order": "RGB",
        "config": "train: {}",
    }
    # It must not take code to read it.
    buffer = io.BytesIO()
    torch.save(description, buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=True) == description


def test_what_is_not_known_is_none() -> None:
    cfg = OmegaConf.create({"dataloader": {"train": {"names": ["never_registered"]}}})
    description = describe_run(cfg, nn.Linear(1, 1), "")
    for key in ("class_names", "resolutions", "pixel_mean", "channel_order"):
        assert description[key] is None


def test_differences_are_sentences() -> None:
    saved = {"class_names": ["a", "b"], "pixel_mean": [1.0], "resolutions": None}
    present = {"class_names": ["a"], "pixel_mean": [1.0], "resolutions": [64]}
    assert differences(saved, present) == [
        "the checkpoint was made with classes ['a', 'b'], this run has ['a']"
    ]
    assert differences(saved, saved) == differences({}, present) == []


def test_long_lists_are_shortened() -> None:
    names = [str(number) for number in range(80)]
    (sentence,) = differences({"class_names": names}, {"class_names": names[:1]})
    assert "'5'] and 74 more" in sentence


def test_number_of_classes_must_be_that_of_the_data() -> None:
    check_num_classes(_Detector(2), ["tree", "house"])
    check_num_classes(_Detector(2), None)
    message = r"data have 1 classes \(\['tree'\]\) but model.roi_heads.num_classes is 2; .*data.tr"
    with pytest.raises(ValueError, match=message):
        check_num_classes(_Detector(2), ["tree"])


def test_number_of_classes_at_the_top() -> None:
    model = nn.Linear(1, 1)
    model.num_classes = 3
    with pytest.raises(ValueError, match="set model.num_classes=1"):
        check_num_classes(model, ["tree"])


def test_semantic_heads_count_otherwise() -> None:
    model = nn.Module()
    model.sem_seg_head = nn.Linear(1, 1)
    model.sem_seg_head.num_classes = 54
    check_num_classes(model, ["tree"])
