"""What PyTorch is told of the compiled operators: schemas, shapes, vmap and autocast."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.ops.cases import REFERENCES, Case, assert_same, make_case

FORMS = ("plain", *REFERENCES)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
UTILITIES = ("test_schema", "test_autograd_registration", "test_faketensor")
DYNAMIC_GRAPH = "test_aot_dispatch_dynamic"
QUICK = (("plain", torch.float32), ("boxes", torch.bfloat16))

pytestmark = pytest.mark.usefixtures("compiled")


def operators(case: Case) -> tuple[Any, Any]:
    """The operator of a case, and that of its gradients."""
    name = "ms_deform_attn_fused" if case.is_fused else "ms_deform_attn"
    namespace = torch.ops.piip_d2
    return getattr(namespace, name).default, getattr(namespace, f"{name}_backward").default


def backward_arguments(case: Case, needs: tuple[bool, ...]) -> tuple[Any, ...]:
    value, points = case.tensors[:2]
    batch, _, heads, width = value.shape
    grad_output = torch.rand(batch, points.shape[1], heads * width).to(value)
    return grad_output, *case.operator_arguments(), *needs, False


def all_needs(case: Case) -> tuple[bool, ...]:
    has_reference = len(case.tensors) == 4
    return (True, True, True, has_reference) if case.is_fused else (True, True, True)


def differentiable(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.requires_grad_() if isinstance(x, Tensor) else x for x in arguments)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_forward(device: torch.device, form: str, dtype: torch.dtype) -> None:
    case = make_case(form, dtype=dtype, broadcast=True, device=device)
    arguments = differentiable(case.operator_arguments())
    torch.library.opcheck(operators(case)[0], arguments, test_utils=(*UTILITIES, DYNAMIC_GRAPH))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_backward(device: torch.device, form: str, dtype: torch.dtype) -> None:
    case = make_case(form, dtype=dtype, broadcast=True, device=device)
    arguments = differentiable(backward_arguments(case, all_needs(case)))
    torch.library.opcheck(operators(case)[1], arguments, test_utils=UTILITIES)


ALL_TYPES_AND_FORMS = [
    pytest.param(form, dtype, marks=() if (form, dtype) in QUICK else pytest.mark.slow)
    for form, dtype in itertools.product(FORMS, DTYPES)
]


@pytest.mark.parametrize(("form", "dtype"), ALL_TYPES_AND_FORMS)
def test_dynamic_graph_of_second_derivatives(
    device: torch.device, form: str, dtype: torch.dtype
) -> None:
    """Takes seconds, since the graph is that of the derivatives of the reference's derivatives."""
    case = make_case(form, dtype=dtype, broadcast=True, shapes=((3, 4),), device=device)
    needs = (True, True, False, *all_needs(case)[3:])
    arguments = differentiable(backward_arguments(case, needs))
    torch.library.opcheck(operators(case)[1], arguments, test_utils=DYNAMIC_GRAPH)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("form", ["plain", "boxes", "grid"])
def test_shapes_and_types_of_gradients(device: torch.device, form: str, dtype: torch.dtype) -> None:
    """For every choice of gradients, what fake kernels promise and real ones give: no strides."""
    case = make_case(form, dtype=dtype, broadcast=True, device=device)
    case.tensors[:3] = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in case.tensors[:3]]
    value, points, weights = case.tensors[:3]
    whole = [value, points, weights]
    if case.is_fused:
        shape = (*points.shape[:4], 4) if form == "boxes" else (0,)
        whole.append((value if form == "grid" else case.tensors[3]).new_empty(shape))
    for needs in itertools.product(*({False, need} for need in all_needs(case))):
        arguments = backward_arguments(case, needs)
        real = operators(case)[1](*arguments)
        on_meta = [x.to("meta") if isinstance(x, Tensor) else x for x in arguments]
        promised = operators(case)[1](*on_meta)
        for one, other, need, like in zip(real, promised, needs, whole, strict=True):
            assert one.shape == other.shape == (like.shape if need else (0,))
            assert one.dtype == other.dtype == like.dtype
            assert one.is_contiguous()
            assert other.is_contiguous()


class BackwardCalls(TorchDispatchMode):
    """Notes the truth values that the operators of gradients are called with."""

    def __init__(self) -> None:
        super().__init__()
        self.flags: list[list[bool]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if "ms_deform_attn" in str(func) and "backward" in str(func):
            self.flags.append([x for x in args if isinstance(x, bool)])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("form", ["plain", "boxes"])
def test_asks_for_no_more_than_is_needed(device: torch.device, form: str) -> None:
    case = make_case(form, device=device)
    count = len(case.tensors)
    with BackwardCalls() as calls:
        for wanted in range(count):
            case.run(
                *(x.detach().requires_grad_(i == wanted) for i, x in enumerate(case.tensors))
            ).sum().backward()
    assert calls.flags == [[i == wanted for i in range(count)] + [False] for wanted in range(count)]


@pytest.mark.parametrize("form", ["plain", "boxes"])
def test_obeys_deterministic_mode(
    device: torch.device, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    case = make_case(form, device=device)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    with BackwardCalls() as calls:
        case.run(*(x.requires_grad_() for x in case.tensors)).sum().backward()
    assert calls.flags == [[True] * (len(case.tensors) + 1)]


def mapped_inputs(case: Case, mapped: tuple[bool, ...]) -> tuple[list[Tensor], list[int | None]]:
    """Tensors with a dimension of 3 more where ``mapped``, in different places."""
    tensors, dims = [], []
    for place, (tensor, is_mapped) in enumerate(zip(case.tensors, mapped, strict=True)):
        stacked = torch.stack([tensor, tensor * 0.9, tensor * 1.1])
        tensors.append(stacked.movedim(0, place % 2) if is_mapped else tensor)
        dims.append(place % 2 if is_mapped else None)
    return tensors, dims


def all_or_one(count: int) -> Iterator[tuple[bool, ...]]:
    yield (True,) * count
    for index in range(count):
        yield tuple(index == other for other in range(count))


@pytest.mark.parametrize("form", FORMS)
def test_vmap(device: torch.device, form: str) -> None:
    """Mapping equals a loop, whichever of the tensors have the dimension."""
    for broadcast in (False, True):
        case = make_case(form, broadcast=broadcast, device=device)
        for mapped in all_or_one(len(case.tensors)):
            tensors, dims = mapped_inputs(case, mapped)
            actual = torch.vmap(case.run, tuple(dims))(*tensors)
            expected = [case.run(*slices(tensors, dims, index)) for index in range(3)]
            assert_same([actual], [torch.stack(expected)], 1e-12)


@pytest.mark.parametrize("form", ["plain", "boxes", "grid"])
def test_vmap_of_gradients(device: torch.device, form: str) -> None:
    case = make_case(form, broadcast=True, device=device)
    operator = operators(case)[1]
    needs = (True, False, *all_needs(case)[2:])

    def run(grad_output: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        others = Case(list(tensors), case.shapes, case.query_grid, case.is_fused)
        return operator(grad_output, *others.operator_arguments(), *needs, False)

    wanted = [index for index, need in enumerate(needs) if need]
    grad_output = torch.rand(3, 2, 6, 6, dtype=torch.float64, device=device)
    for mapped in all_or_one(len(case.tensors)):
        tensors, dims = mapped_inputs(case, mapped)
        out_dims = tuple(0 if need else None for need in needs)
        actual = torch.vmap(run, (0, *dims), out_dims)(grad_output, *tensors)
        expected = [run(grad_output[i], *slices(tensors, dims, i)) for i in range(3)]
        stacked = [torch.stack([one[index] for one in expected]) for index in wanted]
        assert_same([actual[index] for index in wanted], stacked, 1e-12)


def slices(tensors: list[Tensor], dims: list[int | None], index: int) -> list[Tensor]:
    return [
        x if dim is None else x.select(dim, index) for x, dim in zip(tensors, dims, strict=True)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", ["plain", "boxes", "grid"])
def test_autocast(device: torch.device, form: str, dtype: torch.dtype) -> None:
    """The value keeps its type; what autocast has lowered too far is lifted."""
    case = make_case(form, dtype=dtype, device=device)
    mixed = (dtype, torch.bfloat16, torch.float32, torch.bfloat16)[: len(case.tensors)]
    case = case.converted(*mixed)
    operator = operators(case)[0]
    with pytest.raises(RuntimeError):
        operator(*case.operator_arguments())
    with torch.autocast(device.type, torch.bfloat16):
        output = operator(*case.operator_arguments())
    assert output.dtype == dtype
    torch.testing.assert_close(output, case.run(), rtol=0, atol=0)
    expected = case.converted(torch.float64).run()
    torch.testing.assert_close(output.double(), expected, atol=1e-5, rtol=0.01)
