"""A whole configuration for the small DINO that stands in for a published one."""

from detectron2.config import LazyCall as L

from piip_d2.modeling.backbone import ViTBranch
from tests.engine.toy_config import dataloader, lr_multiplier, optimizer, train  # noqa: F401
from tests.golden.cases import BackboneCase
from tests.modeling.dino.tiny import load_golden

from ....configs.common.models.dino import model

_NAMES = {"real_size": "img_size", "init_scale": "init_values"}
_SAME = ("embed_dim", "depth", "num_heads", "pretrain_img_size")


def _branch(official: dict) -> object:
    options = {_NAMES.get(name, name): official[name] for name in (*_NAMES, *_SAME)}
    windows = [size if size > 0 else None for size in official["window_size"]]
    return L(ViTBranch)(**options, window_size=windows)


_official = BackboneCase("two_branch_dino").config
_heads = load_golden()["cfg"]
_piip = model.backbone.bottom_up
_piip.branches = [_branch(_official[f"branch{number}"]) for number in (2, 1)]
_piip.num_interactions = 2
_piip.interaction_block_indexes = [[0, 2], [1, 3]]
_piip.num_heads = _official["deform_num_heads"]
_piip.num_points = _official["n_points"]
_piip.value_ratio = 1.0
_piip.with_projection = _piip.with_norm = False
_piip.interaction_drop_path_rate = 0.0
_piip.size_divisibility = 32
model.backbone.out_channels = _heads["dim"]
model.transformer.feedforward_dim = _heads["ffn"]
model.transformer.num_encoder_layers = _heads["enc"]
model.transformer.num_decoder_layers = _heads["dec"]
model.transformer.num_queries = _heads["num_queries"]
model.num_classes = _heads["num_classes"]
