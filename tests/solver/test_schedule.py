"""Warm-up lengths, and the published step schedule built on them."""

from __future__ import annotations

import pytest

from piip_d2.solver import warmup_fraction


def test_length_is_kept_in_iterations() -> None:
    assert warmup_fraction(500, 87_960) * 87_960 == pytest.approx(500)
    assert warmup_fraction(500, 20_000) * 20_000 == pytest.approx(500)


def test_short_runs_get_a_shorter_warmup() -> None:
    assert warmup_fraction(500, 1_000) == 0.1
    assert warmup_fraction(500, 2) == 0.1
    assert warmup_fraction(500, 1_000, at_most=0.5) == 0.5


def test_no_warmup() -> None:
    assert warmup_fraction(0, 100) == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_iterations": 500, "max_iter": 0}, r"max_iter \(0\) must be at least 1"),
        ({"num_iterations": -1, "max_iter": 10}, r"num_iterations \(-1\) must not be negative"),
        ({"num_iterations": 5, "max_iter": 10, "at_most": 1.0}, r"at_most \(1.0\) must lie"),
    ],
)
def test_values_out_of_range_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        warmup_fraction(**arguments)  # type: ignore[arg-type]
