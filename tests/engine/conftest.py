"""Isolation of the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.runs import undone_process_state


@pytest.fixture(autouse=True)
def _undone_process_state() -> Iterator[None]:
    with undone_process_state():
        yield
