"""Two processes train every kind of cascade, also where a batch has no objects."""

from __future__ import annotations

from pathlib import Path

import torch
from detectron2.engine.defaults import create_ddp_model
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.utils import comm

from piip_d2.engine.processes import launch
from tests.modeling.roi_heads.tiny import (
    build,
    disturb,
    gradients_of,
    make_batch,
    make_config,
)

KINDS = ("default", "boxes", "mmdet, 4conv")
COUNTS = ((2, 0), (0, 0), (1, 3))


def make_model(kind: str) -> GeneralizedRCNN:
    model = build(make_config(kind))
    disturb(model)
    return model


def _train(folder: str) -> None:
    rank = comm.get_rank()
    for number, kind in enumerate(KINDS):
        # Every parameter must have a part in the losses, or the second step fails.
        model = create_ddp_model(make_model(kind), broadcast_buffers=False, device_ids=None)
        for counts in COUNTS:
            grads = gradients_of(model, make_batch([counts[rank]]))
        found = {name.removeprefix("module."): grad for name, grad in grads.items()}
        torch.save(found, Path(folder, f"{number}_{rank}.pth"))


def test_two_processes_have_the_mean_of_both_gradients(tmp_path: Path) -> None:
    launch(_train, 2, device="cpu", args=(str(tmp_path),))
    for number, kind in enumerate(KINDS):
        both = [gradients_of(make_model(kind), make_batch([count])) for count in COUNTS[-1]]
        for rank in range(2):
            found = torch.load(tmp_path / f"{number}_{rank}.pth", weights_only=True)
            assert set(found) == set(both[0])
            for name, grad in found.items():
                expected = (both[0][name] + both[1][name]) / 2
                error = (grad - expected).norm() / expected.norm().clamp(min=1e-6)
                assert error < 1e-4, (kind, name)
