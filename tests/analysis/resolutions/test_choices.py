from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from piip_d2.analysis.resolutions import (
    pareto_front,
    parse_resolutions,
    resolution_grid,
    set_image_scale,
    set_resolutions,
)
from piip_d2.analysis.resolutions.choices import network_resolutions
from tests.analysis.small import small_network


def test_resolutions_are_read():
    assert parse_resolutions("1120,896, 448") == (1120, 896, 448)
    for text in ("", "1120;896", "1120,0", "12.5"):
        with pytest.raises(ValueError, match="positive whole numbers with commas"):
            parse_resolutions(text)


def test_a_grid_is_every_pyramid_of_the_sides():
    grid = resolution_grid([(96, 64), (80, 80), (48, 48)])
    expected = [(96, 80), (96, 64), (96, 48), (80, 80), (80, 64), (80, 48), (48, 48)]
    assert grid == expected
    with pytest.raises(ValueError, match="as many sides"):
        resolution_grid([(96, 64), (80,)])


def test_a_network_runs_at_other_resolutions_as_one_that_was_built_so():
    trained = small_network().eval()
    assert network_resolutions(trained) == (96, 48)
    images = torch.rand(1, 3, 128, 128)
    before = trained(images)
    set_resolutions(trained, (128, 96))
    after = trained(images)
    assert {name: x.shape for name, x in after.items()} == {n: x.shape for n, x in before.items()}
    other = small_network().eval()
    other.load_state_dict(trained.state_dict())
    # Only sizes are set, so another network with the same weights and sizes gives the same maps.
    for branch, side in zip(other.branches, (96, 128), strict=True):
        branch.img_size = side
    for name, x in other(images).items():
        assert torch.equal(x, after[name])
        assert not torch.equal(x, before[name])


def test_resolutions_must_fit():
    network = small_network()
    with pytest.raises(ValueError, match="one side in pixels for each of the 2 branches"):
        set_resolutions(network, (96, 48, 24))
    with pytest.raises(ValueError, match="largest first"):
        set_resolutions(network, (48, 96))


def test_images_are_scaled_with_the_largest_branch():
    resize = {"short_edge_length": 672, "max_size": 1120}
    choice = {"short_edge_length": [480, 800], "max_size": 1333}
    unlimited = {"short_edge_length": 480}
    steps = [resize, {"prob": 0.5}, choice, unlimited]
    loader = OmegaConf.create({"mapper": {"augmentations": steps}})
    set_image_scale(loader, 896, 1120)
    first, second, third, fourth = loader.mapper.augmentations
    # As a config for 896 pixels has it: 896 * 800 // 1333.
    assert first == {"short_edge_length": 537, "max_size": 896}
    assert second == {"prob": 0.5}
    assert third == {"short_edge_length": [384, 640], "max_size": 1066}
    assert fourth == {"short_edge_length": 384}


def test_images_that_are_not_resized_cannot_be_scaled():
    loader = OmegaConf.create({"mapper": {"augmentations": []}})
    set_image_scale(loader, 96, 96)
    with pytest.raises(ValueError, match="a step with short_edge_length.*it has none"):
        set_image_scale(loader, 64, 96)


def test_pareto_front():
    # The third is as fast as the second and worse, the last is slower than the first and equal.
    costs, values = [2.0, 1.0, 1.0, 3.0, 4.0], [40.0, 30.0, 20.0, 41.0, 40.0]
    assert pareto_front(costs, values) == [True, True, False, True, False]
    # Of equal ones none beats the other.
    assert pareto_front([1.0, 1.0], [5.0, 5.0]) == [True, True]
