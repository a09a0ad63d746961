"""The deformable attention module against the reference's numbers."""

from __future__ import annotations

import copy
import functools
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from piip_d2.layers import MSDeformAttn, make_reference_points
from tests.golden.cases import FOLDER

CASES = json.loads((FOLDER / "msda" / "config.json").read_text())["cases"]


@functools.cache
def arrays() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "msda" / "msda.npz") as file:
        return {name: file[name] for name in file.files}


def load(case: str, name: str) -> Tensor | None:
    stored = arrays().get(f"{case}.{name}")
    return None if stored is None else torch.from_numpy(stored)


def build(kwargs: dict[str, Any]) -> MSDeformAttn:
    return MSDeformAttn(
        kwargs["d_model"],
        num_heads=kwargs["n_heads"],
        num_levels=kwargs["n_levels"],
        num_points=kwargs["n_points"],
        value_ratio=kwargs["ratio"],
        kv_dim=kwargs.get("d_feat"),
    )


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=["f64", "f32"]
)
@pytest.mark.parametrize("case", list(CASES))
def test_outputs_and_gradients(
    implementation: str, case: str, dtype: torch.dtype, tolerance: float
) -> None:
    module = build(CASES[case]["kwargs"]).to(dtype)
    module.load_state_dict({name: load(case, f"param.{name}") for name in module.state_dict()})
    names = ("query", "reference_points", "input_flatten")
    inputs = [load(case, name).to(dtype).requires_grad_() for name in names]
    shapes = [tuple(shape) for shape in load(case, "spatial_shapes").tolist()]
    output = module(*inputs, shapes, load(case, "padding_mask"))
    assert_close(output, load(case, "output"), tolerance)
    output.backward(load(case, "grad_output").to(dtype))
    for name, tensor in zip(names, inputs, strict=True):
        assert_close(tensor.grad, load(case, f"grad.{name}"), tolerance)
    for name, parameter in module.named_parameters():
        assert_close(parameter.grad, load(case, f"grad.param.{name}"), tolerance)


@pytest.mark.parametrize(("heads", "levels", "points"), [(16, 1, 4), (6, 2, 3)])
def test_initial_offsets(heads: int, levels: int, points: int) -> None:
    module = MSDeformAttn(96, num_heads=heads, num_levels=levels, num_points=points)
    name = f"bias_{heads}heads_{levels}level{'s' if levels > 1 else ''}_{points}points"
    with np.load(FOLDER / "msda" / "init_offsets.npz") as file:
        expected = torch.from_numpy(file[name]).float()
    torch.testing.assert_close(module.sampling_offsets.bias.data, expected, atol=1e-6, rtol=0)
    assert not module.sampling_offsets.weight.any()
    assert not module.attention_weights.weight.any()
    assert not module.attention_weights.bias.any()


def test_autocast_keeps_locations_exact(implementation: str) -> None:
    """The rounding of 16-bit projections is all the difference to float32."""
    module = MSDeformAttn(32, num_heads=4)
    query, feature = torch.randn(1, 6, 32), torch.randn(1, 400, 32)
    points = torch.rand(1, 6, 1, 2)
    expected = module(query, points, feature, [(20, 20)])
    with torch.autocast("cpu", torch.bfloat16):
        output = module(query, points, feature, [(20, 20)])
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, atol=0.05, rtol=0.05)


def spread_out(module: MSDeformAttn) -> MSDeformAttn:
    """Replaces zeros of the initialisation, with which all queries would look alike."""
    for projection in (module.sampling_offsets, module.attention_weights):
        torch.nn.init.normal_(projection.weight, std=0.2)
    return module


def test_query_grid_is_reference_points_at_the_centres_of_its_cells(implementation: str) -> None:
    module = spread_out(MSDeformAttn(32, num_heads=4, num_levels=2).double())
    query, feature = torch.randn(2, 15, 32).double(), torch.randn(2, 26, 32).double()
    points = make_reference_points(3, 5, device="cpu", dtype=torch.float64)
    shapes = [(4, 5), (2, 3)]
    expected = module(query, points, feature, shapes)
    output = module(query, None, feature, shapes, query_grid=(3, 5))
    torch.testing.assert_close(output, expected, atol=1e-12, rtol=0)


def test_one_of_reference_points_and_query_grid() -> None:
    module = MSDeformAttn(32, num_heads=4)
    query, feature = torch.zeros(1, 4, 32), torch.zeros(1, 4, 32)
    with pytest.raises(ValueError, match="got neither"):
        module(query, None, feature, [(2, 2)])
    with pytest.raises(ValueError, match="got both"):
        module(query, torch.zeros(1, 4, 1, 2), feature, [(2, 2)], query_grid=(2, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_training_in_16_bit(implementation: str, dtype: torch.dtype) -> None:
    """Nothing but inputs and results of the projections is rounded, and all of it is 16 bit."""
    module = spread_out(MSDeformAttn(32, num_heads=4, num_points=2).to(dtype))
    query, feature = torch.randn(2, 9, 32).to(dtype), torch.randn(2, 400, 32).to(dtype)
    points = torch.rand(2, 9, 1, 2)
    exact = copy.deepcopy(module).double()
    output = module(query, points, feature, [(20, 20)])
    expected = exact(query.double(), points.double(), feature.double(), [(20, 20)])
    assert output.dtype == dtype
    # An offset of some pixels has an error of a hundredth in bfloat16.
    torch.testing.assert_close(output.double(), expected, atol=0.05, rtol=0.05)
    output.sum().backward()
    assert {x.grad.dtype for x in module.parameters()} == {dtype}
    assert {x.dtype for x in module.parameters()} == {dtype}


@pytest.mark.parametrize("kwargs", [{"num_heads": 5}, {"num_heads": 8, "value_ratio": 0.1}])
def test_heads_must_divide_widths(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"multiples of num_heads"):
        MSDeformAttn(32, **kwargs)


def test_reference_points_must_be_points_or_boxes() -> None:
    module = MSDeformAttn(32, num_heads=4)
    with pytest.raises(ValueError, match=r"must end in 2 \(points.*\) or 4 \(boxes.*\), got"):
        module(torch.zeros(1, 1, 32), torch.zeros(1, 1, 1, 3), torch.zeros(1, 4, 32), [(2, 2)])


def assert_close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    scale = max(expected.abs().max().item(), 1e-30)
    torch.testing.assert_close(actual.double(), expected, atol=tolerance * scale, rtol=0)
