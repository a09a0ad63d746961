"""Linear layers by oneDNN against PyTorch's own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from piip_d2.layers import Linear, Mlp
from piip_d2.ops import linear, linear_gelu

_MODULE = sys.modules["piip_d2.ops.linear"]
SHAPES = [((5, 7), 3), ((2, 4, 6, 16), 24), ((1,), 1), ((0, 4), 5)]


@pytest.fixture(autouse=True)
def _of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_MODULE, "_MIN_PRODUCTS", 0)


def _problem(
    shape: tuple[int, ...], width: int, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = (shape, (width, shape[-1]), (width,))
    return [torch.randn(size, dtype=dtype).requires_grad_() for size in shapes]


@pytest.mark.parametrize(("shape", "width"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("has_bias", [True, False])
def test_values_and_gradients(
    shape: tuple[int, ...], width: int, dtype: torch.dtype, has_bias: bool, device: torch.device
) -> None:
    inputs = [x.to(device).detach().requires_grad_() for x in _problem(shape, width, dtype=dtype)]
    x, weight, bias = inputs[0], inputs[1], inputs[2] if has_bias else None
    wanted = [tensor for tensor in (x, weight, bias) if tensor is not None]
    results = []
    for function in (linear, F.linear):
        output = function(x, weight, bias)
        results.append([output, *torch.autograd.grad(output.square().sum(), wanted)])
    torch.testing.assert_close(*results)


def _name_of_backward(output: Tensor) -> str:
    assert output.grad_fn is not None
    return output.grad_fn.name()


def test_small_layers_and_a_switch_lead_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = _problem((4, 8), 6)
    own = _name_of_backward(linear(*inputs))
    with torch.backends.mkldnn.flags(enabled=False):
        assert _name_of_backward(linear(*inputs)) != own
    monkeypatch.setattr(_MODULE, "_MIN_PRODUCTS", 4 * 8 * 6 + 1)
    assert _name_of_backward(linear(*inputs)) != own


def test_inputs_in_any_layout() -> None:
    x, weight, bias = _problem((3, 8, 5), 6)
    views = (x.detach().transpose(1, 2), torch.randn(8, 6).t(), bias.detach())
    torch.testing.assert_close(linear(*views), F.linear(*views))


def test_second_derivative() -> None:
    inputs = _problem((2, 3), 4)
    torch.autograd.gradgradcheck(
        lambda *tensors: linear(*tensors).square(), inputs, eps=1e-2, atol=2e-2, rtol=2e-2
    )


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("is_training", [True, False])
def test_gelu(approximate: str, dtype: torch.dtype, tolerance: float, is_training: bool) -> None:
    inputs = _problem((4, 9, 32), 48, dtype=dtype)
    with torch.set_grad_enabled(is_training):
        output = linear_gelu(*inputs, approximate=approximate)
    exact = F.gelu(F.linear(*[x.double() for x in inputs]), approximate=approximate)
    torch.testing.assert_close(output.double(), exact, atol=tolerance * 10, rtol=tolerance)
    assert output.requires_grad == is_training


def test_transforms() -> None:
    x, weight, bias = (tensor.detach() for tensor in _problem((3, 5), 4))

    def loss(x: Tensor) -> Tensor:
        return linear(x, weight, bias).square().sum()

    expected = 2 * F.linear(x, weight, bias) @ weight
    torch.testing.assert_close(torch.func.grad(loss)(x), expected)
    _, tangent = torch.func.jvp(lambda x: linear(x, weight, bias), (x,), (x,))
    torch.testing.assert_close(tangent, F.linear(x, weight))
    with forward_ad.dual_level():
        dual = linear(forward_ad.make_dual(x, x), weight, bias)
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, F.linear(x, weight))
    batched = torch.vmap(lambda x: linear(x, weight, bias))(x)
    torch.testing.assert_close(batched, F.linear(x, weight, bias))


_WITHOUT_BFLOAT16 = """
import torch
from piip_d2.layers import Mlp
mlp = Mlp(32, 64, torch.nn.GELU()).bfloat16()
with torch.no_grad():
    assert torch.isfinite(mlp(torch.randn(4, 9, 32, dtype=torch.bfloat16))).all()
"""


def test_processors_without_products_in_bfloat16() -> None:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    subprocess.run([sys.executable, "-c", _WITHOUT_BFLOAT16], env=environment, check=True)


def test_under_autocast_it_is_a_layer_like_others() -> None:
    x, weight, bias = _problem((6, 8), 4)
    with torch.autocast("cpu", torch.bfloat16):
        output = linear(x, weight, bias)
        torch.testing.assert_close(output, F.linear(x, weight, bias), atol=0, rtol=0)
    assert output.dtype == torch.bfloat16


def test_pytorch_checks_of_operators() -> None:
    x, weight, bias = _problem((2, 5, 8), 4)
    torch.library.opcheck(torch.ops.piip_d2.linear.default, (x, weight, bias))
    torch.library.opcheck(torch.ops.piip_d2.linear.default, (x, weight, None))
    plain = [tensor.detach() for tensor in (x, weight, bias)]
    torch.library.opcheck(torch.ops.piip_d2.linear_gelu.default, (*plain, "tanh"))


def test_operations_are_counted() -> None:
    layer, x = Linear(8, 4), torch.randn(2, 3, 8)
    with FlopCounterMode(display=False) as counter:
        layer(x)
    assert counter.get_total_flops() == 2 * 6 * 8 * 4


@pytest.mark.parametrize(
    "act", [torch.nn.GELU(), torch.nn.GELU(approximate="tanh"), torch.nn.ReLU()]
)
def test_mlp(act: torch.nn.Module) -> None:
    mlp, x = Mlp(8, 12, act), torch.randn(2, 3, 8)
    expected = F.linear(
        act(F.linear(x, mlp.fc1.weight, mlp.fc1.bias)), mlp.fc2.weight, mlp.fc2.bias
    )
    torch.testing.assert_close(mlp(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), expected.detach())


def test_exported_programs_hold_operators_of_pytorch_alone() -> None:
    program = torch.export.export(Mlp(8, 12, torch.nn.GELU()), (torch.randn(3, 8),))
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert targets
    assert all(target.startswith("aten.") for target in targets), targets
