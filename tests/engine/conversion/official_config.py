"""A whole configuration for the small detector that stands in for a published one."""

import json

from detectron2.config import LazyCall as L
from detectron2.model_zoo import get_config
from detectron2.modeling.backbone.fpn import LastLevelMaxPool

from piip_d2.modeling import PIIPFPN, build_piip
from piip_d2.modeling.backbone import ViTBranch
from tests.engine.toy_config import dataloader, lr_multiplier, optimizer, train  # noqa: F401
from tests.golden.cases import FOLDER

_NAMES = {"real_size": "img_size", "init_scale": "init_values"}
_SAME = ("embed_dim", "depth", "num_heads", "pretrain_img_size")


def _branch(official: dict) -> object:
    options = {_NAMES.get(name, name): official[name] for name in (*_NAMES, *_SAME)}
    windows = [size if size > 0 else None for size in official["window_size"]]
    return L(ViTBranch)(**options, window_size=windows)


_file = FOLDER / "backbone" / "tsb3_window_global" / "config.json"
_official = json.loads(_file.read_text())["backbone"]
model = get_config("common/models/mask_rcnn_fpn.py").model
model.backbone = L(PIIPFPN)(
    bottom_up=L(build_piip)(
        branches=[_branch(_official[f"branch{number}"]) for number in (3, 2, 1)],
        num_interactions=4,
        num_heads=4,
        size_divisibility=32,
    ),
    in_features=["res2", "res3", "res4", "res5"],
    out_channels=32,
    top_block=L(LastLevelMaxPool)(),
)
model.proposal_generator.head.in_channels = 32
model.roi_heads.num_classes = 7
model.roi_heads.box_head.input_shape.channels = 32
model.roi_heads.box_head.fc_dims = [48, 48]
model.roi_heads.box_predictor.input_shape.channels = 48
model.roi_heads.mask_head.input_shape.channels = 32
model.roi_heads.mask_head.conv_dims = [24] * 5
model.pixel_mean = model.pixel_std = [127.5, 127.5, 127.5]
model.input_format = "RGB"
