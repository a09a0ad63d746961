"""The CUDA kernels, run thread for thread on the CPU, against the PyTorch reference."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from tests.ops.cases import FIVE_SHAPES, REFERENCES, assert_same, make_case, with_gradients
from tests.ops.cuda_on_host.emulated import (
    FLAGS_VARIABLE,
    TOLERANCES,
    EmulatedOperators,
    Options,
    check,
    compile_operators,
    make_grad_output,
    with_reference_per_head,
)

FORMS = ("plain", *REFERENCES)
WIDTHS = (1, 5, 6, 12, 24, 32, 40, 64, 100)


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedOperators]:
    library = compile_operators(tmp_path_factory.mktemp("cuda_on_host"))
    # Has PyTorch fill what the operators allocate with NaN.
    torch.use_deterministic_algorithms(True)
    yield EmulatedOperators(library)
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("form", FORMS)
def test_head_widths(operators: EmulatedOperators, form: str, width: int) -> None:
    check(operators, make_case(form, width=width, dtype=torch.float32))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_dtypes(operators: EmulatedOperators, dtype: torch.dtype, width: int) -> None:
    """Locations of 16-bit values are float32; offsets and logits may be either."""
    check(operators, make_case("plain", width=width, batch=1, dtype=dtype))
    check(operators, make_case("points", width=width, batch=1, dtype=dtype))
    if dtype.itemsize == 2:
        check(operators, make_case("grid", width=width, dtype=dtype, projected=torch.float32))


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("points", [1, 2, 3, 4, 8])
def test_levels_and_points(operators: EmulatedOperators, levels: int, points: int) -> None:
    form = FORMS[(levels + points) % len(FORMS)]
    shapes = FIVE_SHAPES[:levels]
    check(operators, make_case(form, batch=1, width=12, points=points, shapes=shapes))


@pytest.mark.parametrize("heads", [1, 3, 7, 16])
@pytest.mark.parametrize("grid", [(1, 1), (1, 37), (37, 1), (7, 11), (9, 16)])
def test_tiles(operators: EmulatedOperators, grid: tuple[int, int], heads: int) -> None:
    """Queries and heads that do not fill the tiles that blocks take."""
    form = "grid" if heads % 2 else "plain"
    check(operators, make_case(form, grid=grid, heads=heads, width=2, points=1, shapes=[(5, 4)]))


@pytest.mark.parametrize("form", FORMS)
def test_more_heads_than_a_block_has_threads(operators: EmulatedOperators, form: str) -> None:
    """Prime numbers of heads are not divided among blocks unless a row fills a cache line."""
    check(operators, make_case(form, batch=1, heads=293, width=1, points=1, shapes=[(5, 4)]))


@pytest.mark.parametrize("form", FORMS)
def test_wide_index(operators: EmulatedOperators, form: str) -> None:
    """What is taken where offsets do not fit in 32 bits."""
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        check(operators, make_case(form, width=6, dtype=dtype), Options(wide=True))


@pytest.mark.parametrize(("wide", "width"), [(True, 70), (False, 132), (False, 1028)])
def test_more_channels_than_a_warp_has_lanes(
    operators: EmulatedOperators, wide: bool, width: int
) -> None:
    check(operators, make_case("boxes", batch=1, grid=(1, 2), width=width), Options(wide=wide))


@pytest.mark.parametrize("shift", [1, 2, 3, 4])
def test_unaligned_tensors(operators: EmulatedOperators, shift: int) -> None:
    for dtype in (torch.float32, torch.float64, torch.float16):
        check(operators, make_case("points", width=8, dtype=dtype), Options(shift=shift))


@pytest.mark.parametrize("form", FORMS)
def test_one_pixel(operators: EmulatedOperators, form: str) -> None:
    case = make_case(form, shapes=[(1, 1), (1, 1)], width=4)
    case.tensors[1].view(-1)[::7] = 1 - 2**-24  # the last number before 1
    check(operators, case)


def test_reference_points_shared_by_images_and_levels(operators: EmulatedOperators) -> None:
    for form in ("points", "boxes"):
        check(operators, make_case(form, broadcast=True))


@pytest.mark.parametrize("form", FORMS)
def test_odd_locations(operators: EmulatedOperators, form: str) -> None:
    """NaN, infinite and far ones read nothing and have no gradients; nor do those beside them."""
    case = make_case(form, width=4, points=4, dtype=torch.float32)
    points = case.tensors[1]
    numbers = [math.nan, math.inf, -math.inf, 1e30, -1e30, 1e9, -4.0]
    for index, number in enumerate(numbers):
        points.view(-1, 2)[5 * index, index % 2] = number
    case.tensors[2].view(-1)[0] = 0.5  # of a sample that does not count
    grad_output = make_grad_output(case)
    exact = dataclasses.replace(case, tensors=with_reference_per_head(case)).converted(torch.double)
    _, *expected = with_gradients(exact.run_reference, exact.tensors, grad_output)
    actual = operators.backward(case, grad_output)[: len(expected)]
    assert_same([operators.forward(case).double()], [exact.run_reference()], 3e-6)
    for one, other in zip(actual, expected, strict=True):
        assert one.isfinite().all()
        known = other.isfinite()  # the reference multiplies such offsets by zero
        assert_same([one.double()[known]], [other[known]], 3e-6)


def test_nan_is_read_only_where_a_sample_lies(operators: EmulatedOperators) -> None:
    case = make_case("plain", batch=1, grid=(1, 2), heads=1, width=4, points=1, shapes=[(2, 2)])
    value, locations, weights = case.tensors
    # At the left edge: columns -1 and 0. The other columns and, for query 1, all pixels are off.
    locations[0, 0, 0, 0, 0] = torch.tensor([0.1, 0.5])
    locations[0, 1, 0, 0, 0] = torch.tensor([-2.0, 0.5])
    weights[0, 1] = math.nan
    value[:, 1::2] = math.nan
    output = operators.forward(case)
    assert output.isfinite().all()
    assert output[0, 1].count_nonzero() == 0
    gradients = operators.backward(case, torch.ones_like(output))
    assert all(x.isfinite().all() for x in gradients)
    grad_output = torch.full_like(output, math.nan)
    grad_value, grad_locations, grad_weights = operators.backward(case, grad_output)
    assert grad_value[0, 1::2].count_nonzero() == 0
    assert grad_locations[0, 1].count_nonzero() == 0
    assert grad_weights[0, 1].count_nonzero() == 0


@pytest.mark.parametrize("form", ["plain", "boxes", "grid"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_unwanted_gradients(operators: EmulatedOperators, form: str, deterministic: bool) -> None:
    """Are empty, and do not change the others."""
    case = make_case(form, width=12, dtype=torch.bfloat16)
    grad_output = make_grad_output(case)
    expected = operators.backward(case, grad_output, Options(deterministic=deterministic))
    for needs in itertools.product((False, True), repeat=4):
        options = Options(deterministic=deterministic, needs=needs)
        for one, other, is_wanted in zip(
            operators.backward(case, grad_output, options), expected, needs, strict=False
        ):
            wanted = other if is_wanted else torch.empty(0, dtype=one.dtype)
            assert one.numel() == 0 or is_wanted
            assert_same([one.reshape(wanted.shape)], [wanted], 4e-3)


@pytest.mark.parametrize("width", [5, 12, 24])
def test_order_of_threads(operators: EmulatedOperators, width: int) -> None:
    """Only the value's gradient may depend on it: all else would be a missing barrier."""
    for form in ("plain", "boxes"):
        case = make_case(form, width=width, points=3, dtype=torch.float32)
        grad_output = make_grad_output(case)
        results = []
        for schedule in (0, 1, 2, 3):
            options = Options(schedule=schedule)
            gradients = operators.backward(case, grad_output, options)[1:]
            results.append([operators.forward(case, options), *gradients])
        for others in results[1:]:
            assert all(map(torch.equal, results[0], others))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("form", ["plain", "grid"])
def test_deterministic(operators: EmulatedOperators, form: str, dtype: torch.dtype) -> None:
    """The same bits in whatever order threads run, and the right ones."""
    case = make_case(form, grid=(5, 7), heads=1, shapes=[(2, 2)], dtype=dtype)
    check(operators, case, Options(deterministic=True))
    # A wide range of magnitudes, where sums of floats depend on the order.
    grad_output = make_grad_output(case) ** 9
    sums = [
        operators.backward(case, grad_output, Options(deterministic=True, schedule=schedule))[0]
        for schedule in (0, 1, 2)
    ]
    assert torch.equal(sums[0], sums[1]) and torch.equal(sums[0], sums[2])


@pytest.mark.parametrize("factor", [0.0, 1e-30, 1e30])
def test_fixed_point_follows_the_magnitudes(operators: EmulatedOperators, factor: float) -> None:
    case = make_case("plain", dtype=torch.float32)
    grad_output = make_grad_output(case)
    options = Options(deterministic=True, needs=(True, False, False, False))
    expected = operators.backward(case, grad_output)[0]
    actual = operators.backward(case, grad_output * factor, options)[0]
    assert_same([actual], [expected * factor], 3e-6)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_fixed_point_does_not_hide_what_is_not_finite(
    operators: EmulatedOperators, number: float
) -> None:
    case = make_case("grid", dtype=torch.float32)
    grad_output = make_grad_output(case)
    grad_output[0, :, 0] = number
    grad_value = operators.backward(case, grad_output, Options(deterministic=True))[0]
    assert grad_value.isnan().all()


@pytest.mark.parametrize("form", ["plain", "boxes", "grid"])
@pytest.mark.parametrize("size", [{"batch": 0}, {"grid": (0, 1)}, {"points": 0}, {"width": 0}])
def test_nothing_to_do(
    operators: EmulatedOperators, form: str, size: dict[str, int | tuple[int, int]]
) -> None:
    if form == "grid" and "grid" in size:
        pytest.skip("a grid has queries")
    case = make_case(form, **size)
    output = operators.forward(case)
    assert output.count_nonzero() == 0
    for deterministic in (False, True):
        options = Options(deterministic=deterministic)
        gradients = operators.backward(case, torch.ones_like(output), options)
        for gradient, tensor in zip(gradients, with_reference_per_head(case), strict=False):
            assert gradient.shape == tensor.shape
            assert gradient.count_nonzero() == 0


def test_any_strides(operators: EmulatedOperators) -> None:
    case = make_case("points", width=4, batch=1, broadcast=True)
    value, offsets, logits, reference = case.tensors
    strided = [
        value.transpose(1, 2).contiguous().transpose(1, 2),
        offsets[..., :1].expand(offsets.shape),
        logits.repeat_interleave(2, dim=-1)[..., ::2],
        reference.flip(1).flip(1).expand(1, -1, 2, -1),
    ]
    check(operators, dataclasses.replace(case, tensors=strided))


def test_quotients(operators: EmulatedOperators) -> None:
    divisors = [1, 2, 3, 5, 7, 25, 641, 65535, 65537, 2**30, 2**31 - 1]
    for divisor in divisors:
        for multiple in (0, divisor, 7 * divisor, (2**31 - 1) // divisor * divisor):
            for dividend in (multiple - 1, multiple, multiple + 1, 2**31 - 1):
                if 0 <= dividend < 2**31:
                    assert operators.quotient(dividend, divisor) == dividend // divisor


def test_too_many_points(operators: EmulatedOperators) -> None:
    case = make_case("plain", batch=1, grid=(1, 1), heads=1, points=3000, shapes=[(1, 1)])
    with pytest.raises(RuntimeError, match="levels times points .* 3000 points"):
        operators.forward(case)


def test_too_many_levels(operators: EmulatedOperators) -> None:
    case = make_case("plain", batch=1, grid=(1, 1), heads=1, shapes=[(1, 1)] * 65)
    with pytest.raises(RuntimeError, match="at most 64 levels"):
        operators.forward(case)


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_many_sizes(operators: EmulatedOperators, width: int) -> None:
    for levels, points, form in itertools.product(range(1, 6), range(1, 9), FORMS):
        dtype = list(TOLERANCES)[(levels + points) % 4]
        shapes = FIVE_SHAPES[:levels]
        case = make_case(form, grid=(3, 5), width=width, points=points, shapes=shapes, dtype=dtype)
        check(operators, case)


@pytest.mark.slow
@pytest.mark.usefixtures("operators")
def test_sanitizers() -> None:
    """Nothing is read or written out of bounds in all the other tests."""
    libraries = [
        subprocess.check_output(["g++", f"-print-file-name={name}"], text=True).strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    environment = {
        **os.environ,
        FLAGS_VARIABLE: "-g -fsanitize=address,undefined -fno-sanitize-recover=undefined",
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", __file__],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
