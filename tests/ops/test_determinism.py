"""One result per input on a CPU: from run to run, and in the forward pass for all threads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.ops.cases import REFERENCES, Case, make_case, with_gradients

FORMS = ("plain", *REFERENCES)
SHAPES = ((13, 17), (7, 9))


def make_large(form: str, dtype: torch.dtype, batch: int) -> Case:
    """Enough queries for several threads, of which many read the same pixels."""
    size = {"batch": batch, "grid": (23, 29), "heads": 3, "width": 12, "points": 4}
    return make_case(form, dtype=dtype, shapes=SHAPES, broadcast=True, **size)


def same_bits(actual: list[Tensor], expected: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(actual, expected, strict=True))


@pytest.mark.usefixtures("compiled_for_cpu")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", FORMS)
def test_bits_are_the_same(form: str, dtype: torch.dtype) -> None:
    for batch in (1, 3):
        case = make_large(form, dtype, batch)
        outputs = []
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            first = with_gradients(case.run, case.tensors)
            for _ in range(3):
                assert same_bits(with_gradients(case.run, case.tensors), first)
            outputs.append(first[0])
        assert same_bits(outputs, [outputs[0]] * 3)


@pytest.mark.usefixtures("compiled_for_cpu")
@pytest.mark.parametrize("form", FORMS)
def test_threads_change_no_more_than_the_rounding_of_gradients(form: str) -> None:
    case = make_large(form, torch.float64, 2)
    torch.set_num_threads(1)
    expected = with_gradients(case.run, case.tensors)
    for threads in (2, 3, 4):
        torch.set_num_threads(threads)
        torch.testing.assert_close(
            with_gradients(case.run, case.tensors), expected, atol=1e-12, rtol=1e-12
        )


@pytest.mark.cuda
@pytest.mark.parametrize("form", FORMS)
def test_deterministic_mode_of_cuda(form: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    case = make_large(form, torch.float32, 2)
    tensors = [x.cuda() for x in case.tensors]
    torch.use_deterministic_algorithms(True)
    try:
        first = with_gradients(case.run, tensors)
        for _ in range(5):
            assert same_bits(with_gradients(case.run, tensors), first)
    finally:
        torch.use_deterministic_algorithms(False)
    expected = with_gradients(case.run, case.tensors)
    torch.testing.assert_close([x.cpu() for x in first], expected, atol=1e-3, rtol=1e-3)
