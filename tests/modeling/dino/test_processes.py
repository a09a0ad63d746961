"""Two processes train as one does on both of their batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.engine.defaults import create_ddp_model
from detectron2.utils import comm
from torch import Tensor

from piip_d2.engine.processes import launch
from piip_d2.modeling import DINO
from piip_d2.modeling.dino import DenoisingQueries, join_targets
from tests.modeling.dino.tiny import build_small_model, disturb, make_input

# Objects in the two images of a batch, of which every process gets one.
COUNTS = ((4, 1), (3, 0))


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


def make_noise(model: DINO) -> DenoisingQueries:
    """Noisy queries for a batch of two images, in two groups with four places."""
    torch.manual_seed(2)
    content = model.denoising.label_enc(torch.randint(5, (2, 16)))
    return DenoisingQueries(content, torch.randn(2, 16, 4), num_groups=2, num_places=4)


def losses_and_gradients(counts: tuple[int, int], images: slice) -> dict[str, Tensor]:
    """Of some images of a batch of two, with the same noise whichever they are."""
    model = make_model(with_noise=True)
    noise = make_noise(model)
    noise = replace(noise, content=noise.content[images], box_logits=noise.box_logits[images])
    batch = make_batch(*counts)[images]
    padded = model.preprocess_images(batch)
    size = tuple(padded.tensor.shape[-2:])
    maps = list(model.backbone(padded.tensor).values())
    targets = join_targets([x["instances"] for x in batch])
    output = model.transformer(maps, padded.image_sizes, size, noise)
    losses = model.criterion(output, targets, noise)
    torch.stack(list(losses.values())).sum().backward()
    return losses | {name: p.grad for name, p in model.named_parameters()}


def _work(folder: str) -> None:
    rank = comm.get_rank()
    # Every parameter must have a part in the losses, or this hangs in the second step.
    noisy = create_ddp_model(make_model(with_noise=True), broadcast_buffers=False, device_ids=None)
    for counts in ((2, 0), (0, 0), (1, 3)):
        gradients(noisy, make_batch(counts[rank]))
    plain = create_ddp_model(make_model(with_noise=False), broadcast_buffers=False, device_ids=None)
    found = {
        "plain": gradients(plain, [make_batch(4, 1)[rank]]),
        "noisy": [losses_and_gradients(counts, slice(rank, rank + 1)) for counts in COUNTS],
    }
    torch.save(found, Path(folder, f"{rank}.pth"))


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("processes")
    launch(_work, 2, device="cpu", args=(str(folder),))
    return [torch.load(folder / f"{rank}.pth", weights_only=True) for rank in range(2)]


def test_two_processes_have_the_gradients_of_one(of_ranks: list[dict[str, Any]]) -> None:
    expected = gradients(make_model(with_noise=False), make_batch(4, 1))
    for found in of_ranks:
        assert_close_norms(found["plain"], expected)


def test_noise_counts_by_the_objects_of_all_processes(of_ranks: list[dict[str, Any]]) -> None:
    for counts, *found in zip(COUNTS, *(x["noisy"] for x in of_ranks), strict=True):
        expected = losses_and_gradients(counts, slice(None))
        assert expected["loss_bbox_dn"] > 0
        # What data-parallel training makes of the gradients.
        average = {name: (found[0][name] + found[1][name]) / 2 for name in expected}
        assert_close_norms(average, expected)


def assert_close_norms(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        error = (found[name] - value).norm() / value.norm().clamp(min=1e-6)
        assert error < 1e-4, name
