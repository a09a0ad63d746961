"""Runs tests of the attention on compiled operators and on the PyTorch reference."""

from __future__ import annotations

import pytest

from tests.ops.cases import IMPLEMENTATIONS, use_implementation


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes the modules use the one or the other, on the CPU."""
    use_implementation(request.param, "cpu", monkeypatch)
    return request.param
