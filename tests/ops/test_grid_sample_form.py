"""Deformable attention by ``grid_sample`` equals the operators."""

from __future__ import annotations

import math

import pytest
import torch

from piip_d2.ops import ms_deform_attn
from piip_d2.ops.grid_sample_form import is_lowered, lowered_to_grid_sample
from tests.ops.cases import FIVE_SHAPES, REFERENCES, make_case

LARGE_SHAPES = ((140, 70), (1, 1), (35, 90))


@pytest.mark.parametrize("shapes", [FIVE_SHAPES, LARGE_SHAPES])
@pytest.mark.parametrize("form", ["plain", *REFERENCES])
def test_same_numbers(form: str, shapes: tuple[tuple[int, int], ...]) -> None:
    """Many samples fall on borders and outside."""
    torch.manual_seed(0)
    case = make_case(form, dtype=torch.float32, grid=(5, 7), width=4, points=4, shapes=shapes)
    expected = case.run()
    with lowered_to_grid_sample():
        assert is_lowered()
        output = case.run()
    assert not is_lowered()
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_types_of_values(dtype: torch.dtype) -> None:
    case = make_case("boxes", dtype=dtype)
    with lowered_to_grid_sample():
        output = case.run()
    assert output.dtype == dtype
    torch.testing.assert_close(output, case.run())


@pytest.mark.parametrize("place", [-1.0, 0.0, 0.125, 0.5, 1.0, 2.0, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("axis", [0, 1])
def test_borders(axis: int, place: float) -> None:
    """At edges, outside, and where there is no place."""
    value = torch.arange(1.0, 13.0).reshape(1, 12, 1, 1)
    locations = torch.full((1, 1, 1, 1, 1, 2), 0.4)
    locations[..., axis] = place
    arguments = (value, [(3, 4)], locations, torch.ones(1, 1, 1, 1, 1))
    with lowered_to_grid_sample():
        output = ms_deform_attn(*arguments)
    torch.testing.assert_close(output, ms_deform_attn(*arguments), atol=1e-5, rtol=0.0)


def test_an_error_ends_the_block() -> None:
    with pytest.raises(RuntimeError, match="stop"), lowered_to_grid_sample():
        raise RuntimeError("stop")
    assert not is_lowered()
