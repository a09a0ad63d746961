"""A whole configuration for the small Mask R-CNN; the data set must be registered by the test."""

import torch
from detectron2.config import LazyCall as L
from detectron2.data import DatasetMapper, transforms
from detectron2.evaluation import COCOEvaluator
from fvcore.common.param_scheduler import ConstantParamScheduler

from piip_d2.data import build_test_loader, get_dataset_dicts
from tests.visualization.small_detector import small_mask_rcnn

model = small_mask_rcnn(num_classes=2)
dataloader = {
    "test": L(build_test_loader)(
        dataset=L(get_dataset_dicts)(names="small_test", filter_empty=False),
        mapper=L(DatasetMapper)(
            is_train=False,
            augmentations=[L(transforms.ResizeShortestEdge)(short_edge_length=64, max_size=128)],
            image_format="RGB",
        ),
        num_workers=0,
    ),
    "evaluator": L(COCOEvaluator)(dataset_name="${..test.dataset.names}"),
}
optimizer = L(torch.optim.SGD)(params=[], lr=0.1)
lr_multiplier = L(ConstantParamScheduler)(value=1.0)
train = {"max_iter": 1, "device": "cpu"}
