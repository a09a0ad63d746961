"""Who attends to whom, for every type of the paper's comparison."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from piip_d2.modeling.backbone import InteractionStage, build_interactions
from piip_d2.modeling.backbone.directions import exchanges

# Per kind and interaction: pairs (reader, source) of branches, 0 being the lowest resolution.
THREE_BRANCHES = {
    ("adjacent", 0): {(0, 1), (1, 0), (1, 2), (2, 1)},
    ("adjacent", 1): {(0, 1), (1, 0), (1, 2), (2, 1)},
    ("alternating", 0): {(0, 1), (1, 2)},
    ("alternating", 1): {(1, 0), (2, 1)},
    ("cycle", 0): {(2, 1), (1, 0), (0, 2)},
    ("reverse_cycle", 0): {(0, 1), (1, 2), (2, 0)},
    ("all_pairs", 0): {(0, 1), (1, 0), (1, 2), (2, 1), (0, 2), (2, 0)},
}


def readings(directions: str, num_branches: int, interaction: int) -> set[tuple[int, int]]:
    found = set()
    for exchange in exchanges(directions, num_branches, interaction):
        if exchange.high_to_low:
            found.add((exchange.low, exchange.high))
        if exchange.low_to_high:
            found.add((exchange.high, exchange.low))
    return found


@pytest.mark.parametrize(("directions", "interaction"), THREE_BRANCHES)
def test_three_branches(directions: str, interaction: int) -> None:
    assert readings(directions, 3, interaction) == THREE_BRANCHES[directions, interaction]


@pytest.mark.parametrize("directions", ["adjacent", "cycle", "reverse_cycle", "all_pairs"])
def test_two_branches_read_each_other(directions: str) -> None:
    assert readings(directions, 2, 0) == {(0, 1), (1, 0)}


@pytest.mark.parametrize(
    "directions", ["adjacent", "alternating", "cycle", "reverse_cycle", "all_pairs"]
)
def test_one_branch_reads_nobody(directions: str) -> None:
    assert readings(directions, 1, 0) == set()


def test_unknown_directions() -> None:
    with pytest.raises(ValueError, match="directions must be one of.*'adjacent'.*got 'upwards'"):
        exchanges("upwards", 3, 0)


@pytest.mark.parametrize(("directions", "interaction"), THREE_BRANCHES)
def test_stages_pass_on_exactly_that(directions: str, interaction: int) -> None:
    """What a branch reads directly or, within one stage, by way of another."""
    stage = build_interactions(
        [[16, 16, 16]] * 2, directions=directions, num_heads=4, drop_path_rate=0.0
    )[interaction]
    for name, parameter in stage.named_parameters():
        if "gamma" in name:
            nn.init.ones_(parameter)
    maps = [torch.randn(1, 3, 3, 16) for _ in range(3)]
    direct = THREE_BRANCHES[directions, interaction]
    for source in range(3):
        changed = [x + (number == source) for number, x in enumerate(maps)]
        pairs = zip(stage(maps), stage(changed), strict=True)
        reached = {number for number, (a, b) in enumerate(pairs) if not torch.equal(a, b)}
        assert {reader for reader, read in direct if read == source} <= reached
        if not any(read == source for _, read in direct):
            assert reached == {source}


def test_absent_directions_have_no_parameters() -> None:
    first, second = build_interactions([[16, 16]] * 2, directions="alternating", num_heads=4)
    assert {name.split(".")[2] for name, _ in first.named_parameters()} == {"high_to_low"}
    assert {name.split(".")[2] for name, _ in second.named_parameters()} == {"low_to_high"}


def test_stage_needs_a_pair_per_unit() -> None:
    (stage,) = build_interactions([[16, 16]], num_heads=4)
    with pytest.raises(ValueError, match="1 units need as many pairs, got 2"):
        InteractionStage(list(stage.units), [(0, 1), (1, 2)])
