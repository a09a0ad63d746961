"""PIIP-TSB 1120/896/448, DINO on five maps of strides 4 to 64, 12 epochs of COCO at many scales.

Our own recipe: no result of it exists. It has four times the tokens of the one with four maps, so
the encoder's activations are recomputed; docs/MEMORY.md says what that saves.

python train_net.py --config-file configs/dino/piip_tsb_1120_896_448_1x_5scale.py --num-gpus 8
"""

from ..common.dino_1x import data, dataloader, lr_multiplier, model, optimizer, train
from ..common.models.branches import tsb
from ..common.pyramid import set_multi_scale_pyramid

set_multi_scale_pyramid(model, dataloader, tsb([1120, 896, 448]), size_divisibility=224)
model.backbone.bottom_up.out_features = ["res2", "res3", "res4", "res5"]
model.backbone.num_levels = 5
model.transformer.use_encoder_act_checkpoint = True
