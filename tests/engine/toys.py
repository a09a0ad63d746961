"""A detector, its data and its evaluator, small enough to train in milliseconds."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

Sample = dict[str, Any]


class ToyDetector(nn.Module):
    """Linear layers with dropout and batch normalisation; two losses in training.

    Args:
        width: Hidden features.
        dropout: Share of features that are dropped.
        fail_from: Samples at this position or behind give a loss that is not a number.
    """

    def __init__(self, width: int = 8, dropout: float = 0.5, fail_from: float = -1.0) -> None:
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor([0.5, 0.5, 0.5]), persistent=False)
        self.input_format = "RGB"
        self.fail_from = fail_from
        self.use_act_checkpoint = False
        self.body = nn.Sequential(
            nn.Linear(12, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)
        )
        self.head = nn.Linear(width, 2)

    def forward(self, batch: list[Sample]) -> Any:
        images = torch.stack([sample["image"] for sample in batch]).to(self.pixel_mean.device)
        scores = self.head(self.body((images - 0.5).flatten(1)))
        if not self.training:
            return [{"score": float(score[0])} for score in scores]
        noise = 0.01 * torch.rand((), device=scores.device)
        losses = {
            "loss_cls": (scores[:, 0] - 1).square().mean() + noise,
            "loss_box": scores[:, 1].abs().mean(),
        }
        if 0 <= self.fail_from <= max(sample["position"] for sample in batch):
            losses["loss_box"] = losses["loss_box"] * torch.nan
        return losses


class ToySamples(Dataset[Sample]):
    """Samples that are functions of (seed, position).

    The process that first comes to the position ``deadly`` is killed, and leaves a file behind.
    """

    def __init__(self, seed: int, delay: float, deadly: int = -1, grave: str = "") -> None:
        self.seed = seed
        self.delay = delay
        self.deadly = deadly
        self.grave = Path(grave)

    def __getitem__(self, position: int) -> Sample:
        time.sleep(self.delay)
        if position == self.deadly and not self.grave.exists():
            self.grave.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + position)
        image = torch.rand(3, 2, 2, generator=generator)
        return {"image": image, "position": position, "file_name": f"{position}.png"}


class _Positions(Sampler[list[int]]):
    def __init__(self, batch_size: int, start: int) -> None:
        self.batch_size = batch_size
        self.start = start

    def __iter__(self) -> Iterator[list[int]]:
        batch = self.start
        share = self.batch_size // comm.get_world_size()
        while True:
            first = batch * self.batch_size + comm.get_rank() * share
            yield list(range(first, first + share))
            batch += 1


def build_toy_train_loader(
    *,
    total_batch_size: int = 4,
    num_workers: int = 0,
    seed: int | None = None,
    start_iteration: int = 0,
    delay: float = 0.0,
    deadly: int = -1,
    grave: str = "",
) -> DataLoader[Sample]:
    """An endless loader that can begin anywhere."""
    return DataLoader(
        ToySamples(seed or 0, delay, deadly, grave),
        batch_sampler=_Positions(total_batch_size, start_iteration),
        num_workers=num_workers,
        collate_fn=list,
    )


def build_unseekable_loader(*, total_batch_size: int = 4) -> DataLoader[Sample]:
    """An endless loader that always begins at the beginning, as Detectron2's does."""
    return build_toy_train_loader(total_batch_size=total_batch_size)


def build_finite_loader(*, num_batches: int) -> list[list[Sample]]:
    """A loader that ends, as none for training should."""
    samples = ToySamples(0, 0.0)
    return [[samples[2 * index], samples[2 * index + 1]] for index in range(num_batches)]


def build_toy_test_loader() -> list[list[Sample]]:
    """Two batches."""
    return build_finite_loader(num_batches=2)


class ToyEvaluator(DatasetEvaluator):
    """Its AP is the mean score, or a value given per evaluation."""

    scripted: list[float] | None = None

    def __init__(self, output_dir: str | None = None) -> None:
        self.output_dir = output_dir
        self.scores: list[float] = []

    def reset(self) -> None:
        self.scores = []

    def process(self, inputs: list[Sample], outputs: list[dict[str, float]]) -> None:
        self.scores += [output["score"] for output in outputs]

    def evaluate(self) -> dict[str, dict[str, float]]:
        if ToyEvaluator.scripted:
            return {"bbox": {"AP": ToyEvaluator.scripted.pop(0)}}
        return {"bbox": {"AP": sum(self.scores) / len(self.scores), "AP-rare": float("nan")}}


def build_toy_optimizer(params: dict[str, Any], lr: float) -> torch.optim.Optimizer:
    """AdamW over the parameters of ``params["model"]``."""
    model: nn.Module = params["model"]
    return torch.optim.AdamW(model.parameters(), lr=lr)


def first_weight(model: nn.Module) -> Tensor:
    """The first parameter of a model, detached."""
    return next(model.parameters()).detach().clone()
