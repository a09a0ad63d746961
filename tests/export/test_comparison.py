"""When a file computes what its model computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from piip_d2.export import Difference, Exported, compare, comparison


@pytest.mark.parametrize(
    ("largest", "scale", "is_exact", "is_close"),
    [
        (1e-3, 100.0, False, True),
        (1e-3, 10.0, False, False),
        (1e-8, 1e-2, False, True),
        (1e-6, 1e-2, False, False),
        (0.0, 0.0, False, True),
        (float("nan"), 1.0, False, False),
        (float("nan"), float("nan"), False, False),
        (0.0, 90.0, True, True),
        (1.0, 1e6, True, False),
    ],
)
def test_tolerance(largest: float, scale: float, is_exact: bool, is_close: bool) -> None:
    assert Difference("p3", (64, 96), largest, scale, is_exact).is_close == is_close


@pytest.mark.parametrize("wrong", ["maps", "classes", None])
def test_results_are_compared(wrong: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {"maps": torch.tensor([1.0, 3.0]), "classes": torch.tensor([100_000])}
    found = {name: result.clone() for name, result in expected.items()}
    if wrong == "maps":
        found["maps"][0] = torch.nan
    elif wrong == "classes":
        found["classes"][0] += 1

    def load(path: Path) -> comparison.Program:
        return lambda images: list(found.values())

    monkeypatch.setattr(comparison, "load_program", load)
    images = torch.zeros(1, 3, 4, 8)
    exported = Exported(Path("x.pt2"), _Fixed(expected), ["images"], [*expected], [(images,)])
    differences = compare(exported)
    assert [entry.size for entry in differences] == [(4, 8), (4, 8)]
    assert {entry.name for entry in differences if not entry.is_close} == {wrong} - {None}


class _Fixed(nn.Module):
    def __init__(self, results: dict[str, Tensor]) -> None:
        super().__init__()
        self.results = results

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.results
