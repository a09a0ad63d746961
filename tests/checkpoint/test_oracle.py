"""Networks built from the reference's configurations compute what a second program computes.

That program is in ``tests/oracle``; the first tests hold it to numbers of the released code.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from piip_d2.checkpoint import (
    build_from_official,
    convert_backbone_state_dict,
    export_backbone_state_dict,
)
from piip_d2.modeling.backbone import PIIPNetwork
from tests import oracle as oracle_package
from tests.golden import cases
from tests.oracle.configurations import CONVNEXT_SIZES, OracleCase, oracle_cases
from tests.oracle.named_layers import Shapes
from tests.oracle.network import Computed, make_network
from tests.oracle.random_weights import random_weights

ORACLE_CASES = oracle_cases()
PYRAMIDS = [name for name, case in ORACLE_CASES.items() if case.config["type"].startswith("PIIP")]
VECTORS = ("tsb_noflash", "h6b_2branch", "tsbl_4branch_as_released_code", "beit", "uniperceiver")


@dataclass(frozen=True)
class Reference:
    """What the oracle says of a case."""

    case: OracleCase
    shapes: Shapes
    weights: dict[str, Tensor]
    images: Tensor
    computed: Computed

    def gradients(self) -> Tensor:
        """Gradients of all weights in a row, behind a 0 for what is no weight of the oracle."""
        flat = [_gradient(values).flatten() for values in trained(self.weights).values()]
        return torch.cat([torch.zeros(1, dtype=torch.float64), *flat])


@functools.cache
def reference_of(name: str) -> Reference:
    """Runs the oracle forth and back on a case."""
    case = ORACLE_CASES[name]
    oracle = make_network(
        case.config,
        convnext_sizes=CONVNEXT_SIZES,
        as_released=case.four_branch == "as_released",
    )
    shapes = oracle.shapes()
    weights = random_weights(shapes, seed=list(ORACLE_CASES).index(name))
    for values in trained(weights).values():
        values.requires_grad_()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(case.shape, generator=generator, dtype=torch.float64, requires_grad=True)
    computed = oracle.compute(weights, images)
    cases.golden_loss(computed.outputs).backward()
    return Reference(case, shapes, weights, images, computed)


@functools.cache
def network_of(name: str) -> PIIPNetwork:
    """Builds ours with the oracle's weights."""
    reference = reference_of(name)
    case = reference.case
    network = build_from_official(
        case.config, four_branch=case.four_branch, convnext_sizes=CONVNEXT_SIZES
    )
    weights = {name: values.detach() for name, values in reference.weights.items()}
    network.double().load_state_dict(convert_backbone_state_dict(weights, case.config))
    return network.eval()


def trained(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leaves out buffers of whole numbers."""
    return {name: values for name, values in weights.items() if values.is_floating_point()}


def numbered(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gives every element its number, from 1 on, in float64; keeps buffers."""
    counts = [values.numel() for values in trained(weights).values()]
    starts = itertools.accumulate(counts, initial=1)
    numbers = {
        name: torch.arange(start, start + values.numel(), dtype=values.dtype).view(values.shape)
        for start, (name, values) in zip(starts, trained(weights).items(), strict=False)
    }
    return {**weights, **numbers}


@pytest.mark.parametrize("input_name", cases.INPUTS)
@pytest.mark.parametrize("name", cases.BACKBONE_CASES)
def test_oracle_on_reference_data(name: str, input_name: str) -> None:
    case = cases.BackboneCase(name)
    oracle = make_network(case.config, convnext_sizes=case.convnext_sizes)
    assert oracle.shapes() == {name: tuple(x.shape) for name, x in case.weights.items()}
    weights = {name: x.double().requires_grad_() for name, x in case.weights.items()}
    computed = oracle.compute(weights, case.io[f"{input_name}.input"].double())
    for output, expected in zip(computed.outputs, case.outputs(input_name), strict=True):
        assert_close_to_maximum(output, expected)
    for point in cases.POINTS:
        for branch, features in enumerate(computed.intermediates[point]):
            tokens = features.flatten(2).transpose(1, 2)
            assert_close_to_maximum(tokens, case.tokens(input_name, point, branch))
    cases.golden_loss(computed.outputs).backward()
    norms = case.gradients[input_name]["param_grad_norm_f64"]
    for parameter, norm in norms.items():
        gradient = _gradient(weights[parameter])
        assert gradient.norm().item() == pytest.approx(norm or 0, rel=1e-6), parameter


@pytest.mark.parametrize("name", VECTORS)
def test_oracle_on_vectors(name: str) -> None:
    case = cases.vector_cases()[name]
    oracle = make_network(case["config"], as_released="as_released" in name)
    shapes = oracle.shapes()
    buffers = {name: shape for name, shape in shapes.items() if name.endswith("position_index")}
    assert {name: list(shapes[name]) for name in shapes.keys() - buffers} == dict(case["keys"])
    weights = {name: x.double() for name, x in cases.vector_weights(case["keys"]).items()}
    with torch.no_grad():
        computed = oracle.compute(
            {**weights, **random_weights(buffers, seed=0)},
            cases.vector_input(case["input"]).double(),
        )
    for output, expected in zip(computed.outputs, case["outputs"], strict=True):
        assert list(output.shape) == expected["shape"]
        actual = output.flatten()[torch.tensor(expected["flat_index"])]
        # The released code ran in float32.
        torch.testing.assert_close(
            actual, torch.tensor(expected["values"], dtype=torch.float64), atol=3e-3, rtol=0
        )


@pytest.mark.parametrize("name", ORACLE_CASES)
def test_outputs(name: str) -> None:
    reference = reference_of(name)
    with torch.no_grad():
        outputs = list(network_of(name)(reference.images).values())
    for output, expected in zip(outputs, reference.computed.outputs, strict=True):
        assert_close_to_maximum(output, expected)
    sides = [output.shape[-1] for output in outputs]
    assert sides == sorted(sides, reverse=True)


@pytest.mark.parametrize("name", PYRAMIDS)
def test_intermediates(name: str) -> None:
    reference = reference_of(name)
    with torch.no_grad():
        intermediates = network_of(name).forward_intermediates(reference.images)
    expected = reference.computed.intermediates
    assert intermediates.keys() == expected.keys()
    for point in cases.POINTS:
        for features, expected_features in zip(intermediates[point], expected[point], strict=True):
            assert_close_to_maximum(features, expected_features)


@pytest.mark.parametrize("name", ORACLE_CASES)
def test_gradients(name: str) -> None:
    reference = reference_of(name)
    network = network_of(name)
    images = reference.images.detach().requires_grad_()
    loss = cases.golden_loss(list(network(images).values()))
    parameters = dict(network.named_parameters())
    of_images, *gradients = torch.autograd.grad(loss, [images, *parameters.values()])
    assert_close_to_maximum(of_images, _gradient(reference.images), tolerance=1e-6)

    numbers = convert_backbone_state_dict(numbered(reference.weights), reference.case.config)
    assert numbers.keys() == network.state_dict().keys()
    expected = reference.gradients()
    # What is zero but for rounding, as of a bias that a softmax takes off again.
    floor = 1e-12 * expected.norm()
    wrong = {}
    unseen = torch.ones_like(expected, dtype=torch.bool)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        places = numbers[parameter].long()
        unseen[places] = False
        error = (gradient - expected[places]).norm()
        if not error <= 1e-6 * expected[places].norm() + floor:
            wrong[parameter] = error.item()
    assert not wrong
    assert not expected[unseen].any(), "the oracle uses weights that the network does not have"


@pytest.mark.parametrize("name", ORACLE_CASES)
def test_export(name: str) -> None:
    reference = reference_of(name)
    exported = export_backbone_state_dict(network_of(name).state_dict(), reference.case.config)
    assert {name: tuple(values.shape) for name, values in exported.items()} == reference.shapes
    wrong = []
    for official, values in reference.weights.items():
        back = exported[official]
        used = _gradient(values) != 0 if values.is_floating_point() else torch.ones_like(values) > 0
        if back.dtype != values.dtype or not torch.equal(back[used], values[used]):
            wrong.append(official)
    assert not wrong


def test_oracle_is_a_program_of_its_own() -> None:
    files = list(Path(oracle_package.__file__).parent.glob("*.py"))
    assert len(files) > 5
    assert not [path.name for path in files if "piip_d2" in path.read_text(encoding="utf-8")]


def test_numbers_come_once() -> None:
    weights = reference_of("beit, perceiver and deit").weights
    numbers = torch.cat([values.flatten() for values in trained(numbered(weights)).values()])
    assert torch.equal(numbers, torch.arange(1, len(numbers) + 1, dtype=torch.float64))


def assert_close_to_maximum(actual: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    """Compares relative to the largest value of the expected tensor."""
    assert actual.shape == expected.shape
    largest = expected.abs().max().item()
    assert math.isfinite(largest) and largest > 0
    torch.testing.assert_close(actual, expected, atol=tolerance * largest, rtol=0)


def _gradient(values: Tensor) -> Tensor:
    """The gradient of a weight, zeros for one that nothing depends on."""
    return torch.zeros_like(values) if values.grad is None else values.grad
