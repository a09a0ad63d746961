"""Two processes train as one does on both of their batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from detectron2.engine.defaults import create_ddp_model
from detectron2.utils import comm
from torch import Tensor

from piip_d2.engine.processes import launch
from piip_d2.modeling import DINO
from tests.modeling.dino.tiny import build_small_model, disturb, make_input


def make_model(*, with_noise: bool) -> DINO:
    torch.manual_seed(0)
    model = build_small_model().train()
    disturb(model)
    if not with_noise:
        model.denoising = None
    return model


def make_batch(*counts: int) -> list[dict[str, Any]]:
    torch.manual_seed(1)
    return [make_input((64, 64), count) for count in counts]


def gradients(model: torch.nn.Module, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
    torch.stack(list(model(batch).values())).sum().backward()
    return {name.removeprefix("module."): p.grad for name, p in model.named_parameters()}


def _train(folder: str) -> None:
    rank = comm.get_rank()
    # Every parameter must have a part in the losses, or this hangs in the second step.
    noisy = create_ddp_model(make_model(with_noise=True), broadcast_buffers=False, device_ids=None)
    for counts in ((2, 0), (0, 0), (1, 3)):
        gradients(noisy, make_batch(counts[rank]))
    plain = create_ddp_model(make_model(with_noise=False), broadcast_buffers=False, device_ids=None)
    found = gradients(plain, [make_batch(4, 1)[rank]])
    torch.save(found, Path(folder, f"{rank}.pth"))


def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    launch(_train, 2, device="cpu", args=(str(tmp_path),))
    expected = gradients(make_model(with_noise=False), make_batch(4, 1))
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pth", weights_only=True)
        assert set(found) == set(expected)
        for name, grad in expected.items():
            error = (found[name] - grad).norm() / grad.norm().clamp(min=1e-6)
            assert error < 1e-4, name
