"""Linear layers that keep less for the backward pass, against the layers they stand for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from piip_d2.ops import gelu_linear, mlp, norm_linear, norm_linears, saves_memory, scaled_linear

_ROWS, _WIDTH, _OUT = 12, 8, 5


@pytest.fixture(autouse=True)
def _of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["piip_d2.ops.frugal_linear"], "_MIN_ELEMENTS", 0)


def _tensors(dtype: torch.dtype = torch.float64, rows: int = _ROWS) -> dict[str, Tensor]:
    torch.manual_seed(0)
    shapes = {"x": (2, rows // 2, _WIDTH), "weight": (_OUT, _WIDTH), "bias": (_OUT,)}
    shapes["scale"] = (_OUT,)
    return {name: torch.randn(shape, dtype=dtype) for name, shape in shapes.items()}


def _norm(width: int) -> nn.LayerNorm:
    torch.manual_seed(1)
    norm = nn.LayerNorm(width, dtype=torch.float64)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


_NORM = _norm(_WIDTH)
_SMALL_NORM = _norm(_OUT)
_Function = Callable[..., Tensor]
_CASES: dict[str, tuple[_Function, _Function]] = {
    "norm": (
        lambda x, weight, bias, scale: norm_linear(x, _NORM, weight, bias),
        lambda x, weight, bias, scale: F.linear(_NORM(x), weight, bias),
    ),
    "norm without weights": (
        lambda x, weight, bias, scale: norm_linear(
            x, nn.LayerNorm(_WIDTH, elementwise_affine=False), weight
        ),
        lambda x, weight, bias, scale: F.linear(F.layer_norm(x, (_WIDTH,)), weight),
    ),
    "projection and norm": (
        lambda x, weight, bias, scale: norm_linear(
            x, _SMALL_NORM, weight[:3, :_OUT], bias[:3], projection=(weight, scale)
        ),
        lambda x, weight, bias, scale: F.linear(
            _SMALL_NORM(F.linear(x, weight, scale)), weight[:3, :_OUT], bias[:3]
        ),
    ),
    "projection and other norm": (
        lambda x, weight, bias, scale: norm_linear(
            x, nn.Softmax(-1), weight[:3, :_OUT], projection=(weight, None)
        ),
        lambda x, weight, bias, scale: F.linear(F.linear(x, weight).softmax(-1), weight[:3, :_OUT]),
    ),
    "other norm": (
        lambda x, weight, bias, scale: norm_linear(x, nn.Softmax(-1), weight, bias),
        lambda x, weight, bias, scale: F.linear(x.softmax(-1), weight, bias),
    ),
    "two behind a norm": (
        lambda x, weight, bias, scale: torch.cat(
            norm_linears(x, _NORM, [weight, weight[:2]], [bias, scale[:2]]), -1
        ),
        lambda x, weight, bias, scale: torch.cat(
            [F.linear(_NORM(x), weight, bias), F.linear(_NORM(x), weight[:2], scale[:2])], -1
        ),
    ),
    "gelu": (
        lambda x, weight, bias, scale: gelu_linear(x, weight, bias, approximate="tanh"),
        lambda x, weight, bias, scale: F.linear(F.gelu(x, approximate="tanh"), weight, bias),
    ),
    "gelu and scale": (
        lambda x, weight, bias, scale: gelu_linear(x, weight, bias, scale=scale),
        lambda x, weight, bias, scale: F.linear(F.gelu(x), weight, bias) * scale,
    ),
    "scale": (
        lambda x, weight, bias, scale: scaled_linear(x, weight, bias, scale),
        lambda x, weight, bias, scale: F.linear(x, weight, bias) * scale,
    ),
    "scale without bias": (
        lambda x, weight, bias, scale: scaled_linear(x, weight, None, scale),
        lambda x, weight, bias, scale: F.linear(x, weight) * scale,
    ),
    "mlp": (
        lambda x, weight, bias, scale: mlp(
            x, (weight, bias), (weight.t(), None), approximate="none", norm=_NORM, scale=x[0, 0]
        ),
        lambda x, weight, bias, scale: (
            F.linear(F.gelu(F.linear(_NORM(x), weight, bias)), weight.t()) * x[0, 0]
        ),
    ),
}


def _norm_parameters() -> list[nn.Parameter]:
    return [*_NORM.parameters(), *_SMALL_NORM.parameters()]


@pytest.mark.parametrize("name", _CASES)
@pytest.mark.parametrize("rows", [_ROWS, 4])
@pytest.mark.parametrize("learned", [("x", "weight", "bias", "scale"), ("x",), ("x", "scale")])
def test_values_and_gradients(name: str, rows: int, learned: tuple[str, ...]) -> None:
    results = []
    for function in _CASES[name]:
        tensors = _tensors(rows=rows)
        wanted = [tensors[key].requires_grad_() for key in learned] + _norm_parameters()
        output = function(**tensors)
        gradients = torch.autograd.grad(output.square().sum(), wanted, allow_unused=True)
        results.append([output, *[gradient for gradient in gradients if gradient is not None]])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("name", _CASES)
def test_first_and_second_derivative(name: str) -> None:
    tensors = {key: tensor.requires_grad_() for key, tensor in _tensors().items()}

    def function(*inputs: Tensor) -> Tensor:
        return _CASES[name][0](**dict(zip(tensors, inputs, strict=True))).square()

    torch.autograd.gradcheck(function, tuple(tensors.values()), fast_mode=True)
    torch.autograd.gradgradcheck(function, tuple(tensors.values()), fast_mode=True)


@pytest.mark.parametrize("name", ["norm", "projection and norm", "gelu and scale", "scale", "mlp"])
def test_under_autocast(name: str) -> None:
    results = []
    norms = nn.ModuleList([_NORM, _SMALL_NORM]).float()
    try:
        for function in _CASES[name]:
            tensors = _tensors(torch.float32)
            wanted = [tensor.requires_grad_() for tensor in tensors.values()]
            with torch.autocast("cpu", torch.bfloat16):
                output = function(**tensors)
            gradients = torch.autograd.grad(
                output.float().square().sum(), [*wanted, *norms.parameters()], allow_unused=True
            )
            results.append([output, *[x for x in gradients if x is not None]])
    finally:
        norms.double()
    for actual, expected in zip(*results, strict=True):
        assert actual.dtype == expected.dtype
        error = (actual - expected).float().norm() / expected.float().norm()
        assert error < 2e-2


@pytest.mark.parametrize("name", ["norm", "projection and norm", "gelu and scale", "scale"])
def test_no_result_is_kept(name: str) -> None:
    tensors = {key: tensor.requires_grad_() for key, tensor in _tensors().items()}
    known = {x.untyped_storage()._cdata for x in (*tensors.values(), *_norm_parameters())}
    foreign: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in known:
            foreign.append(tensor)
        return tensor

    frugal, plain = _CASES[name]
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        frugal(**tensors)
    assert not foreign
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        plain(**tensors)
    assert foreign


@pytest.mark.parametrize("name", ["norm", "projection and norm", "gelu and scale", "scale", "mlp"])
@pytest.mark.parametrize("rows", [_ROWS, 4])
def test_under_selective_recomputation(name: str, rows: int) -> None:
    def keep_all(*_: object, **__: object) -> CheckpointPolicy:
        return CheckpointPolicy.MUST_SAVE

    contexts = partial(create_selective_checkpoint_contexts, keep_all)
    results = []
    for is_checkpointed in (False, True):
        tensors = {key: tensor.requires_grad_() for key, tensor in _tensors(rows=rows).items()}
        function: _Function = partial(_CASES[name][0], **tensors)
        if is_checkpointed:
            function = partial(checkpoint, function, use_reentrant=False, context_fn=contexts)
        output = function()
        wanted = [*tensors.values(), *_norm_parameters()]
        found = torch.autograd.grad(output.square().sum(), wanted, allow_unused=True)
        results.append([output, *[gradient for gradient in found if gradient is not None]])
    torch.testing.assert_close(*results, rtol=0.0, atol=0.0)


def test_transforms_take_plain_layers() -> None:
    tensors = _tensors()
    x = tensors.pop("x")
    frugal, plain = _CASES["gelu and scale"]
    results = [
        torch.func.grad(lambda x, function=function: function(x, **tensors).square().sum())(x)
        for function in (frugal, plain)
    ]
    torch.testing.assert_close(*results)


def test_small_inputs_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(4, 8)
    assert not saves_memory(x)
    assert saves_memory(x.requires_grad_())
    with torch.no_grad():
        assert not saves_memory(x)
    monkeypatch.setattr(sys.modules["piip_d2.ops.frugal_linear"], "_MIN_ELEMENTS", 33)
    assert not saves_memory(x)
