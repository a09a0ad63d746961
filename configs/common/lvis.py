"""LVIS v1 with its 1203 classes, sampled and weighed as in Detectron2's configs for it.

Images are those of COCO, in ``coco/`` below ``DETECTRON2_DATASETS``; annotations are
``lvis/lvis_v1_train.json`` and ``lvis/lvis_v1_val.json``. See docs/EVALUATION.md.
"""

from __future__ import annotations

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from piip_d2.data import federated_class_weights, get_repeated_dataset_dicts
from piip_d2.evaluation import PIIPLVISEvaluator

from .coco_1x import data, dataloader, optimizer, train
from .schedule import step_schedule

dataloader.train.dataset = L(get_repeated_dataset_dicts)(
    names="lvis_v1_train", repeat_threshold=0.001
)
dataloader.test.dataset.names = "lvis_v1_val"
dataloader.evaluator = L(PIIPLVISEvaluator)(
    dataset_name="${..test.dataset.names}", max_dets_per_image=300
)
# Detectron2's baseline drops its rate at 120,000 and 160,000.
train.max_iter = 180_000
lr_multiplier = step_schedule(9, [6, 8], warmup_iterations=500)
train.eval_period = 30_000


def use_lvis_classes(model: DictConfig) -> None:
    """Gives an R-CNN with one box head LVIS' classes and the federated loss.

    An image of LVIS is not annotated for all classes. The loss leaves out most of those that are
    not in the batch, so that they are not taught as background.

    Args:
        model: Made by one of the files in ``common/models``; changed in place.
    """
    model.roi_heads.num_classes = 1203
    predictor = model.roi_heads.box_predictor
    predictor.use_sigmoid_ce = True
    predictor.use_fed_loss = True
    predictor.get_fed_loss_cls_weights = L(federated_class_weights)(
        names="${dataloader.train.dataset.names}", num_classes="${model.roi_heads.num_classes}"
    )
    predictor.test_score_thresh = 0.02
    predictor.test_topk_per_image = 300
