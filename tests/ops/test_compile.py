"""``torch.compile`` and ``torch.export``: whole graphs that hold for all sizes of images."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from piip_d2.ops import decompositions, ms_deform_attn, ms_deform_attn_fused
from tests.ops.cases import use_implementation

HEADS, POINTS = 6, 4
# Height, width and batch; no two sizes of one call are the same, which compilers would exploit.
SIZES = ((5, 7, 2), (6, 9, 2), (11, 4, 3), (8, 8, 2), (13, 6, 1))


class FromGrid(nn.Module):
    """The fused form as a module uses it: sizes come from the maps."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets = nn.Linear(12, HEADS * 2 * POINTS * 2)
        self.logits = nn.Linear(12, HEADS * 2 * POINTS)

    def forward(self, large: Tensor, small: Tensor) -> Tensor:
        query = large.flatten(1, 2)
        value = torch.cat((query, small.flatten(1, 2)), dim=1).unflatten(-1, (HEADS, 2))
        offsets = self.offsets(query).unflatten(-1, (HEADS, 2, POINTS, 2))
        logits = self.logits(query).unflatten(-1, (HEADS, 2, POINTS))
        shapes = [large.shape[1:3], small.shape[1:3]]
        return self.attend(value, shapes, offsets, logits)

    def attend(
        self, value: Tensor, shapes: list[tuple[int, int]], offsets: Tensor, logits: Tensor
    ) -> Tensor:
        return ms_deform_attn_fused(value, shapes, offsets, logits, query_grid=shapes[0])


class FromBoxes(FromGrid):
    """With reference boxes that are computed from the query, one for all levels."""

    def attend(
        self, value: Tensor, shapes: list[tuple[int, int]], offsets: Tensor, logits: Tensor
    ) -> Tensor:
        boxes = logits[:, :, 0, 0, None].sigmoid()
        return ms_deform_attn_fused(value, shapes, offsets, logits, reference_points=boxes)


class FromLocations(FromGrid):
    """The plain form."""

    def attend(
        self, value: Tensor, shapes: list[tuple[int, int]], offsets: Tensor, logits: Tensor
    ) -> Tensor:
        weights = logits.flatten(-2).softmax(-1).unflatten(-1, (2, POINTS))
        return ms_deform_attn(value, shapes, offsets.sigmoid(), weights)


MODULES = (FromGrid, FromBoxes, FromLocations)


def make_maps(size: tuple[int, int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    height, width, batch = size
    large = torch.randn(batch, height, width, 12, device=device)
    return large, torch.randn(batch, height // 2 + 1, width // 2 + 1, 12, device=device)


def run(
    function: Callable[..., Tensor], module: nn.Module, maps: tuple[Tensor, ...]
) -> list[Tensor]:
    """Output and all gradients."""
    leaves = [x.clone().requires_grad_() for x in maps]
    output = function(*leaves)
    parameters = list(module.parameters())
    return [output, *torch.autograd.grad(output.square().sum(), [*leaves, *parameters])]


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch.compiler.reset()


def check_compiled(make: Callable[[], nn.Module], backend: str, device: torch.device) -> None:
    module = make().to(device)
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend=counter)
    graphs = []
    for size in SIZES[:4]:
        maps = make_maps(size, device)
        torch.testing.assert_close(
            run(compiled, module, maps), run(module, module, maps), atol=1e-5, rtol=1e-4
        )
        graphs.append(counter.frame_count)
    # The first size may take several attempts.
    assert graphs == graphs[:1] * 4


@pytest.mark.parametrize("make", MODULES)
def test_one_graph_for_all_sizes(
    device: torch.device, compiled: None, make: Callable[[], nn.Module]
) -> None:
    """Forward and backward, without a graph break and without compiling again."""
    check_compiled(make, "aot_eager", device)


@pytest.mark.slow
@pytest.mark.parametrize("make", MODULES)
def test_one_program_for_all_sizes(
    device: torch.device, implementation: str, make: Callable[[], nn.Module]
) -> None:
    check_compiled(make, "inductor", device)


@pytest.mark.parametrize("make", MODULES)
def test_sizes_that_were_not_announced_as_dynamic(
    device: torch.device, compiled: None, make: Callable[[], nn.Module]
) -> None:
    """By default a second size compiles once more, and then no other does."""
    module = make().to(device).requires_grad_(False)
    counter = CompileCounterWithBackend("eager")
    program = torch.compile(module, fullgraph=True, backend=counter)
    for height, width, _ in SIZES:
        maps = make_maps((height, width, 2), device)
        torch.testing.assert_close(program(*maps), module(*maps))
    assert counter.frame_count == 2


def exported(module: nn.Module, device: torch.device, strict: bool) -> torch.export.ExportedProgram:
    sizes = dict.fromkeys(range(3), torch.export.Dim.DYNAMIC)
    maps = make_maps(SIZES[0], device)
    return torch.export.export(module, maps, dynamic_shapes=(sizes, sizes), strict=strict)


def check_exported(make: Callable[[], nn.Module], strict: bool, device: torch.device) -> set[str]:
    """Compares an exported program for other sizes; returns the operators in it."""
    module = make().to(device).eval()
    program = exported(module, device, strict)
    for size in SIZES[1:4]:
        maps = make_maps(size, device)
        torch.testing.assert_close(program.module()(*maps), module(*maps))
    return {str(node.target) for node in program.graph.nodes if "piip_d2" in str(node.target)}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("make", MODULES)
def test_export(
    device: torch.device, compiled: None, make: Callable[[], nn.Module], strict: bool
) -> None:
    name = "ms_deform_attn" if make is FromLocations else "ms_deform_attn_fused"
    assert check_exported(make, strict, device) == {f"piip_d2.{name}.default"}


@pytest.mark.parametrize(
    ("make", "strict"),
    [
        (FromBoxes, False),
        pytest.param(FromGrid, True, marks=pytest.mark.slow),
        pytest.param(FromLocations, True, marks=pytest.mark.slow),
    ],
)
def test_export_of_the_reference(
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[], nn.Module],
    strict: bool,
) -> None:
    use_implementation("reference", device, monkeypatch)
    assert not check_exported(make, strict, device)


@pytest.mark.parametrize("make", MODULES)
def test_export_to_operators_of_pytorch(
    device: torch.device, compiled: None, make: Callable[[], nn.Module]
) -> None:
    module = make().to(device).eval()
    program = exported(module, device, strict=False).run_decompositions(decompositions())
    assert all("piip_d2" not in str(node.target) for node in program.graph.nodes)
    for size in SIZES[1:4]:
        maps = make_maps(size, device)
        torch.testing.assert_close(program.module()(*maps), module(*maps), atol=1e-5, rtol=1e-4)


def test_no_decompositions_without_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("piip_d2.ops.decompositions")
    monkeypatch.setattr(module, "has_extension", lambda: False)
    assert decompositions() == {}
