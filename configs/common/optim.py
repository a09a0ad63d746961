"""AdamW with PIIP's layer-wise decay. Its other settings in the released recipe are torch's own."""

import torch
from detectron2.config import LazyCall as L

from piip_d2.solver import get_piip_param_groups

optimizer = L(torch.optim.AdamW)(
    params=L(get_piip_param_groups)(
        # params.model is set by the trainer.
        base_lr="${..lr}",
        weight_decay="${..weight_decay}",
        layer_decay=0.85,
    ),
    lr=1e-4,
    weight_decay=0.05,
)
