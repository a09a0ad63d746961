"""What the tests of conversion share."""

from __future__ import annotations

import pytest


@pytest.fixture
def no_random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves weights as they come, for tests that load all of them or have none.

    On tensors without content, drawing them costs most of the time.
    """
    monkeypatch.setattr("timm.layers.weight_init._trunc_normal_", lambda tensor, *_: tensor)
