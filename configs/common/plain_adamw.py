"""AdamW with one rate and one weight decay for all parameters, as for the ConvNeXt baseline."""

import torch
from detectron2.config import LazyCall as L
from detectron2.solver.build import get_default_optimizer_params

optimizer = L(torch.optim.AdamW)(
    params=L(get_default_optimizer_params)(
        # params.model is set by the trainer.
        base_lr="${..lr}",
        weight_decay="${..weight_decay}",
    ),
    lr=1e-4,
    weight_decay=0.05,
)
