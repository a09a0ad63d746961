from __future__ import annotations

from collections import Counter

import pytest

from piip_d2.data.planning import BatchPlan, orientation_groups

GROUPS = [0] * 11 + [1] * 6


def _batches(plan: BatchPlan, count: int) -> list[list[int]]:
    return [[plan.index(p) for p in plan.batch(step, 0, 1)] for step in range(count)]


def test_batches_hold_one_group_and_lose_nothing():
    plan = BatchPlan(GROUPS, batch_size=4, seed=0)
    # 17 images fill 17 batches of 4 in exactly 4 passes.
    batches = _batches(plan, 17)
    for batch in batches:
        assert len({GROUPS[index] for index in batch}) == 1
    assert Counter(index for batch in batches for index in batch) == dict.fromkeys(range(17), 4)


def test_every_position_can_be_computed_alone():
    expected = _batches(BatchPlan(GROUPS, 4, 3), 40)
    late = BatchPlan(GROUPS, 4, 3)
    assert [late.index(p) for p in late.batch(39, 0, 1)] == expected[39]
    assert [late.index(p) for p in late.batch(7, 0, 1)] == expected[7]


def test_seeds_and_passes_differ():
    first, other = (_batches(BatchPlan([0] * 12, 4, seed), 6) for seed in (0, 1))
    assert first != other
    assert first[:3] != first[3:]


def test_ranks_share_the_sequence():
    plan = BatchPlan(GROUPS, 2, 0)
    one_rank = _batches(plan, 6)
    two_ranks = [
        [plan.index(p) for p in plan.batch(step, rank, 2)] for step in range(3) for rank in (0, 1)
    ]
    assert two_ranks == one_rank


def test_a_group_smaller_than_a_batch_joins_the_others():
    plan = BatchPlan([0] * 9 + [1], batch_size=5, seed=0)
    batches = _batches(plan, 2)
    assert sorted(batches[0] + batches[1]) == list(range(10))


def test_more_slots_than_images():
    assert sorted(_batches(BatchPlan([0, 0, 0], 6, 0), 1)[0]) == [0, 0, 1, 1, 2, 2]


def test_substitutes_are_fixed_and_of_the_same_group():
    plan = BatchPlan(GROUPS, 4, 0)
    for position in range(40):
        chosen = [plan.substitute(position, attempt) for attempt in range(1, 6)]
        assert chosen == [plan.substitute(position, attempt) for attempt in range(1, 6)]
        assert {GROUPS[index] for index in chosen} == {GROUPS[plan.index(position)]}


def test_orientations():
    assert orientation_groups([(20, 10), (10, 20), (10, 10)]) == [0, 1, 1]


@pytest.mark.parametrize(
    ("groups", "batch_size", "seed", "message"),
    [
        ([], 2, 0, "at least one sample"),
        ([0], 0, 0, "batch_size must be at least 1, got 0"),
        ([0], 1, -1, "seed must not be negative, got -1"),
    ],
)
def test_arguments_are_checked(groups: list[int], batch_size: int, seed: int, message: str):
    with pytest.raises(ValueError, match=message):
        BatchPlan(groups, batch_size, seed)
