"""A small DINO on the small PIIP, which trains on a CPU within minutes.

It takes longer than an R-CNN to tell classes apart. So its stems are pre-trained, for which
``train.init_checkpoint`` has to name the weights, and classes weigh more beside boxes.
"""

from .dino import model
from .quick_piip import CHANNELS, HIDDEN, use_pretrained_stems
from .quick_piip import backbone as _quick

model.backbone.bottom_up = _quick.bottom_up
model.backbone.bottom_up.out_features = ["res3", "res4", "res5"]
model.backbone.out_channels = CHANNELS
model.backbone.num_groups = 8
use_pretrained_stems(model)
model.transformer.feedforward_dim = HIDDEN
model.transformer.num_encoder_layers = 2
model.transformer.num_decoder_layers = 3
model.transformer.num_queries = 60
model.denoising.num_queries = 30
model.criterion.class_weight = 4.0
model.topk_per_image = 100
