"""A whole configuration for a small DINO on Detectron2's ResNet."""

from detectron2.config import LazyCall as L

from tests.engine.small_resnet import build_small_resnet
from tests.engine.toy_config import dataloader, lr_multiplier, optimizer, train  # noqa: F401

from ....configs.common.models.dino import model

model.backbone.bottom_up = L(build_small_resnet)(stride_in_1x1=False)
model.backbone.in_features = ["res3", "res4", "res5"]
model.backbone.out_channels = 32
model.backbone.num_groups = 8
model.transformer.feedforward_dim = 48
model.transformer.num_encoder_layers = 2
model.transformer.num_decoder_layers = 3
model.transformer.num_queries = 12
model.pixel_mean = [123.675, 116.28, 103.53]
model.pixel_std = [58.395, 57.12, 57.375]
