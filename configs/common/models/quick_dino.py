"""A small DINO on the small PIIP, which trains from scratch on a CPU within minutes."""

from .dino import model
from .quick_piip import CHANNELS, HIDDEN
from .quick_piip import backbone as _quick

model.backbone.bottom_up = _quick.bottom_up
model.backbone.bottom_up.out_features = ["res3", "res4", "res5"]
model.backbone.out_channels = CHANNELS
model.backbone.num_groups = 8
model.transformer.feedforward_dim = HIDDEN
model.transformer.num_encoder_layers = 2
model.transformer.num_decoder_layers = 3
model.transformer.num_queries = 60
model.denoising.num_queries = 30
model.topk_per_image = 100
