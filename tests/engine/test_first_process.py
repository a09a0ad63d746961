"""What one process does for all of them."""

from __future__ import annotations

import pickle

import pytest
from detectron2.utils import comm

from piip_d2.engine.first_process import in_first_process


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (ValueError("the reason"), ValueError),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "the reason"), ValueError),
        (OSError("the reason"), OSError),
        (RuntimeError("the reason"), OSError),
        (None, None),
    ],
)
def test_all_processes_raise_what_the_first_one_met(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, seen: type[Exception] | None
) -> None:
    acted, sent = [], []

    def act() -> None:
        acted.append(comm.is_main_process())
        if error:
            raise error

    def gather(own: object) -> list[object]:
        # What the first one has sent reaches the second one as bytes.
        sent.append(pickle.dumps(own))
        return [pickle.loads(sent[0]), own]

    monkeypatch.setattr(comm, "all_gather", gather)
    for is_first in (True, False):
        monkeypatch.setattr(comm, "is_main_process", is_first.__bool__)
        if seen:
            with pytest.raises(seen, match="the reason") as caught:
                in_first_process(act)
            assert type(caught.value) is seen
            assert caught.value.__cause__ is (error if is_first else None)
        else:
            in_first_process(act)
    assert acted == [True]
    # Both have come to the place where they meet.
    assert len(sent) == 2
