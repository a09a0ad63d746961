"""The front door, and what reports answer."""

from __future__ import annotations

import pytest

from piip_d2.analysis import CONVENTIONS, count_costs
from piip_d2.analysis.structure import SizedNetwork
from piip_d2.modeling.backbone import ConvNeXtBranch, build_network
from tests.analysis.small import small_network


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_parts_add_up(convention: str) -> None:
    report = count_costs(small_network(), convention=convention)
    assert report.convention == convention
    assert report.notes
    assert report.params == sum(row.params for row in report.rows)
    assert report.flops == sum(row.flops for row in report.rows)
    assert report.part("branches").params == sum(
        report.part(f"branches.{number}").params for number in range(2)
    )
    names = [row.name for row in report.rows if row.name.startswith("branches")]
    assert names == ["branches.1", "branches.0"], "largest resolution first"
    assert report.part("branches.1").description == ("ViTBranch at 96 px, 2 blocks of 32 channels")


def test_branches_are_not_mistaken_by_their_numbers() -> None:
    report = count_costs(small_network(), convention="paper")
    with pytest.raises(KeyError, match=r"no part is called 'branches\.'"):
        report.part("branches.")
    with pytest.raises(KeyError, match="there are"):
        report.part("branch")


def test_unknown_conventions_are_refused() -> None:
    with pytest.raises(ValueError, match="convention must be one of"):
        count_costs(small_network(), convention="theirs")


@pytest.mark.parametrize("convention", ["paper", "released_script"])
def test_squares_alone_have_these_conventions(convention: str) -> None:
    with pytest.raises(ValueError, match="counts for squares"):
        count_costs(small_network(), convention=convention, image_size=(96, 64))


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(
    ("resolutions", "message"),
    [
        ([48, 96], r"largest first, got \[48, 96\]; take \[96, 48\]"),
        ([96], "one side in pixels for each of the 2 branches, got 1"),
        ([96, 15], "of which 15 is less than the 16 pixels of a cell of ViTBranch at 48 px"),
        ([0, 0], "of which 0 is less than the 16 pixels of a cell of ViTBranch at 96 px"),
    ],
)
def test_wrong_resolutions_are_refused(
    convention: str, resolutions: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        count_costs(small_network(), resolutions=resolutions, convention=convention)


def test_one_cell_is_enough() -> None:
    for convention in CONVENTIONS:
        report = count_costs(small_network(), resolutions=[32, 16], convention=convention)
        assert report.part("branches.0").flops > 0


def test_cells_are_those_of_the_last_map() -> None:
    branch = ConvNeXtBranch(img_size=64, depths=(1, 1, 1, 1), dims=(32, 32, 32, 32))
    network = build_network([branch], num_interactions=0, merge="none", out_features=["res5"])
    for convention in ("released_script", "actual"):
        with pytest.raises(ValueError, match="31 is less than the 32 pixels of a cell of ConvNeXt"):
            count_costs(network, resolutions=[31], convention=convention)


def test_sizes_of_maps() -> None:
    network = small_network()
    sized = SizedNetwork(network)
    assert [(x.channels, x.side, x.cells) for x in sized.maps_at(0)] == [(64, 3, 9), (32, 6, 36)]
    assert [x.elements for x in sized.maps_at(None)] == [64 * 9, 32 * 36]
    directions = list(sized.directions(1))
    assert [direction.query.side for direction in directions] == [3, 6]
    assert [direction.feature.side for direction in directions] == [6, 3]
    assert [name for name, *_ in sized.merges()] == ["merge"]
