"""Mixed precision."""

from __future__ import annotations

import pytest
import torch

from piip_d2.engine.precision import Precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_forward_runs_in_the_named_arithmetic(name: str, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 4)
    with Precision(name, CPU).autocast():
        assert layer(torch.ones(2, 4)).dtype == dtype


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_unscaled_gradients_are_true(name: str) -> None:
    weight = torch.nn.Parameter(torch.tensor(2.0))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    precision = Precision(name, CPU)
    precision.backward(3 * weight)
    precision.unscale(optimizer)
    assert weight.grad == 3
    precision.step(optimizer)
    assert weight == 2 - 0.5 * 3


def test_half_precision_skips_overflow() -> None:
    weight = torch.nn.Parameter(torch.tensor(2.0))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    precision = Precision("fp16", CPU)
    before = precision.scaler.get_scale()
    precision.backward(weight * torch.tensor(float("inf")))
    precision.unscale(optimizer)
    precision.step(optimizer)
    assert weight == 2
    assert precision.scaler.get_scale() == before / 2
    assert precision.skips_overflow


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="train.amp.dtype must be one of .*bf16.*got 'half'"):
        Precision("half", CPU)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_step_on_the_gpu(name: str) -> None:
    device = torch.device("cuda")
    layer = torch.nn.Linear(8, 8).to(device)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    precision = Precision(name, device)
    before = layer.weight.detach().clone()
    with precision.autocast():
        loss = layer(torch.ones(2, 8, device=device)).square().mean()
    precision.backward(loss)
    precision.unscale(optimizer)
    precision.step(optimizer)
    assert not torch.equal(before, layer.weight)
