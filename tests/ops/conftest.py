"""Runs tests of the operators on what is compiled and on the PyTorch reference."""

from __future__ import annotations

import pytest
import torch

from tests.ops.cases import IMPLEMENTATIONS, use_implementation


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(
    request: pytest.FixtureRequest, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Makes the public functions use the one or the other, on ``device``."""
    use_implementation(request.param, device, monkeypatch)
    return request.param


@pytest.fixture
def compiled(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips a test where nothing is compiled for ``device``."""
    use_implementation("compiled", device, monkeypatch)


@pytest.fixture
def compiled_for_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips a test where nothing is compiled for the CPU."""
    use_implementation("compiled", "cpu", monkeypatch)
