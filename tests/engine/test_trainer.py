"""The training loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from detectron2.engine import HookBase
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from torch import Tensor, nn

from piip_d2.engine.precision import Precision
from piip_d2.engine.trainer import _DIVERGED, GradientClipping, Trainer

CPU = torch.device("cpu")


class _Regression(nn.Module):
    """Two losses of a linear layer, one of them through dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)
        self.dropout = 0.0

    def forward(self, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        inputs = torch.stack([sample["x"] for sample in batch])
        dropped = nn.functional.dropout(inputs, self.dropout)
        return {
            "loss_fit": (self.layer(dropped) - 1).square().mean(),
            "loss_size": self.layer(inputs).abs().mean(),
        }


class _Batches:
    """Endless batches, cut out of one sequence of samples."""

    def __init__(self, size: int, poison: int | None = None) -> None:
        self.size = size
        self.poison = poison

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        generator = torch.Generator().manual_seed(1)
        position = 0
        while True:
            batch = []
            for _ in range(self.size):
                x = torch.rand(3, generator=generator)
                if position == self.poison:
                    x = x * torch.nan
                batch.append({"x": x, "file_name": f"{position}.png"})
                position += 1
            yield batch


class _Recorder(HookBase):
    """Notes total loss and gradient norm of every iteration."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []

    def after_step(self) -> None:
        latest = self.trainer.storage.latest()
        self.losses.append(latest["total_loss"][0])
        self.norms.append(latest["grad_norm"][0])


def _trainer(
    batches: Any, *, precision: str = "fp32", lr: float = 0.1, **kwargs: Any
) -> tuple[Trainer, _Recorder]:
    model = _Regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    trainer = Trainer(model, optimizer, precision=Precision(precision, CPU), **kwargs)
    trainer.use_data_loader(batches)
    recorder = _Recorder()
    trainer.register_hooks([recorder])
    return trainer, recorder


def _weight(trainer: Trainer) -> Tensor:
    return trainer.model.layer.weight.detach().clone()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_learns(precision: str) -> None:
    trainer, recorder = _trainer(_Batches(4), precision=precision)
    trainer.train(0, 30)
    assert sum(recorder.losses[-5:]) < 0.9 * sum(recorder.losses[:5])


def test_accumulation_equals_a_larger_batch() -> None:
    whole, whole_record = _trainer(_Batches(8))
    parts, parts_record = _trainer(_Batches(2), accumulate=4)
    whole.train(0, 5)
    parts.train(0, 5)
    torch.testing.assert_close(_weight(parts), _weight(whole))
    assert parts_record.losses == pytest.approx(whole_record.losses, rel=1e-5)
    assert parts_record.norms == pytest.approx(whole_record.norms, rel=1e-5)


def test_clipping_bounds_the_step() -> None:
    trainer, recorder = _trainer(_Batches(4), lr=1.0, clipping=GradientClipping(0.01))
    before = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    trainer.train(0, 1)
    after = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    # With SGD and a learning rate of 1 the step is the clipped gradient; the metric is not clipped.
    assert (after - before).norm().item() == pytest.approx(0.01, rel=1e-3)
    assert recorder.norms[0] > 0.1


def test_unclipped_step_is_the_gradient() -> None:
    trainer, recorder = _trainer(_Batches(4), lr=1.0)
    before = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    trainer.train(0, 1)
    after = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    assert (after - before).norm().item() == pytest.approx(recorder.norms[0], rel=1e-5)


def test_random_draws_depend_on_seed_and_iteration_alone() -> None:
    def losses(start: int, stop: int, seed: int) -> list[float]:
        trainer, recorder = _trainer(_Batches(4), lr=0.0, seed=seed)
        trainer.model.dropout = 0.5
        torch.rand(start + 1)  # whatever was drawn before
        trainer.train(start, stop)
        return recorder.losses

    # The batches begin anew, but with a learning rate of 0 only dropout differs.
    assert losses(0, 4, 0) == losses(0, 4, 0)
    assert losses(0, 4, 0) != losses(0, 4, 1)
    assert losses(0, 1, 0) != losses(1, 2, 0)


def test_loss_that_is_not_finite_is_named_and_leaves_the_weights_alone() -> None:
    trainer, recorder = _trainer(_Batches(4, poison=9))
    message = r"loss term\(s\) .*'loss_fit': nan.* not finite at iteration 2 .*9\.png"
    with pytest.raises(FloatingPointError, match=message):
        trainer.train(0, 5)
    assert len(recorder.losses) == 2
    assert bool(torch.isfinite(_weight(trainer)).all())


def test_gradient_that_is_not_finite_is_named() -> None:
    class InfiniteSlope(_Regression):
        def forward(self, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
            return {"loss": (0 * self.layer.weight.sum()).abs().sqrt()}

    trainer, _ = _trainer(_Batches(1))
    trainer.model = InfiniteSlope()
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    before = _weight(trainer)
    with pytest.raises(FloatingPointError, match="gradients of layer.weight are not finite at it"):
        trainer.train(0, 1)
    assert torch.equal(_weight(trainer), before)


@pytest.mark.parametrize("clipping", [None, GradientClipping(1.0)])
def test_norm_that_overflows_names_the_largest_gradient(clipping: GradientClipping | None) -> None:
    class Steep(_Regression):
        def forward(self, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
            # Finite in float32, but their squares are not.
            return {"loss": 1e30 * self.layer.weight.sum() + self.layer.bias.sum()}

    trainer, _ = _trainer(_Batches(1), clipping=clipping)
    trainer.model = Steep()
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    message = r"norm of all gradients is not finite .*largest seen is 1e\+30, of layer.weight"
    with pytest.raises(FloatingPointError, match=message):
        trainer.train(0, 1)


def test_infinite_gradient_is_named_in_spite_of_clipping() -> None:
    class HalfInfinite(_Regression):
        def forward(self, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
            infinite = (0 * self.layer.weight.sum()).abs().sqrt()
            return {"loss": infinite + self.layer.bias.sum()}

    trainer, _ = _trainer(_Batches(1), clipping=GradientClipping(1.0))
    trainer.model = HalfInfinite()
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    with pytest.raises(FloatingPointError, match="gradients of layer.weight are not finite at it"):
        trainer.train(0, 1)


@pytest.mark.parametrize("is_divergence", [True, False])
def test_proposals_that_diverge_come_with_a_way_out(is_divergence: bool) -> None:
    sentence = "Predicted boxes or scores contain Inf/NaN. Training has diverged."
    error = FloatingPointError(sentence if is_divergence else "another")

    class Diverging(_Regression):
        def forward(self, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
            raise error

    trainer, _ = _trainer(_Batches(1))
    trainer.model = Diverging()
    with pytest.raises(FloatingPointError) as raised:
        trainer.train(0, 1)
    if is_divergence:
        assert raised.value.__cause__ is error
        for part in ("iteration 0", "0.png", "optimizer.lr", "train.clip_grad.enabled", "bf16"):
            assert part in str(raised.value)
    else:
        assert raised.value is error


def test_message_on_divergence_is_still_that_of_detectron2() -> None:
    boxes = [torch.full((1, 4, 4), torch.nan)]
    with pytest.raises(FloatingPointError, match=_DIVERGED):
        find_top_rpn_proposals(boxes, [torch.zeros(1, 4)], [(9, 9)], 0.7, 4, 4, 0.0, True)


def test_data_must_not_end() -> None:
    trainer, _ = _trainer([[{"x": torch.ones(3)}]])
    with pytest.raises(RuntimeError, match="training data ended at iteration 1; .*for ever"):
        trainer.train(0, 3)


def test_accumulate_must_be_positive() -> None:
    with pytest.raises(ValueError, match="train.accumulate must be at least 1, got 0"):
        _trainer(_Batches(1), accumulate=0)


class _Counter(HookBase):
    """Notes the iterations at which it acted."""

    def __init__(self) -> None:
        self.iterations: list[int] = []

    def after_step(self) -> None:
        self.iterations.append(self.trainer.iter)


class _Snapshot(HookBase):
    """Takes the trainer's state in the middle of an iteration, as a checkpoint does."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration
        self.state: dict[str, Any] = {}

    def after_step(self) -> None:
        if self.trainer.iter == self.iteration:
            self.state = self.trainer.state_dict()


def test_hooks_behind_the_checkpoint_are_repeated() -> None:
    trainer, _ = _trainer(_Batches(2))
    snapshot = _Snapshot(3)
    trainer.register_hooks([snapshot])
    trainer.train(0, 4)

    resumed, _ = _trainer(_Batches(2))
    before, behind = _Counter(), _Counter()
    resumed.register_hooks([before])
    resumed.register_hooks_after_checkpoint([behind])
    assert resumed.next_iteration == 0
    resumed.load_state_dict(snapshot.state)
    assert resumed.next_iteration == 4
    assert resumed.first_unwritten_iteration == 3
    resumed.train(4, 6)
    assert before.iterations == [4, 5]
    assert behind.iterations == [3, 4, 5]


def test_state_behind_an_iteration_repeats_nothing() -> None:
    trainer, _ = _trainer(_Batches(2))
    trainer.train(0, 4)
    resumed, _ = _trainer(_Batches(2))
    behind = _Counter()
    resumed.register_hooks_after_checkpoint([behind])
    resumed.load_state_dict(trainer.state_dict())
    assert resumed.next_iteration == resumed.first_unwritten_iteration == 4
    resumed.train(4, 5)
    assert behind.iterations == [4]


def test_run_keeps_its_seed() -> None:
    trainer, _ = _trainer(_Batches(2), seed=5)
    trainer.train(0, 1)
    resumed, _ = _trainer(_Batches(2), seed=6)
    resumed.load_state_dict(trainer.state_dict())
    assert resumed.seed == 5
