"""Networks built from the reference's configurations compute what the reference computed."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from piip_d2.checkpoint import build_from_official, convert_backbone_state_dict
from piip_d2.modeling.backbone import PIIPNetwork
from tests.golden import cases


@functools.cache
def load_case(name: str) -> cases.BackboneCase:
    return cases.BackboneCase(name)


def build(case: cases.BackboneCase) -> PIIPNetwork:
    network = build_from_official(case.config, convnext_sizes=case.convnext_sizes)
    network.load_state_dict(convert_backbone_state_dict(case.weights, case.config))
    return network.train(case.train)


def parameter_by_official_name(case: cases.BackboneCase) -> dict[str, str]:
    """Finds the name of ours for each of the reference's by sending numbers through."""
    numbers = {name: torch.tensor(float(i)) for i, name in enumerate(case.weights)}
    names = list(numbers)
    converted = convert_backbone_state_dict(numbers, case.config)
    return {names[int(number)]: name for name, number in converted.items()}


@pytest.mark.parametrize("name", list(cases.vector_cases()))
def test_vectors(name: str) -> None:
    case = cases.vector_cases()[name]
    mode = "as_released" if "as_released" in name else "corrected"
    network = build_from_official(case["config"], four_branch=mode).eval()
    weights = cases.vector_weights(case["keys"])
    network.load_state_dict(convert_backbone_state_dict(weights, case["config"]))
    with torch.no_grad():
        outputs = network(cases.vector_input(case["input"])).values()
    for output, expected in zip(outputs, case["outputs"], strict=True):
        assert list(output.shape) == expected["shape"]
        flat = output.double().flatten()
        torch.testing.assert_close(
            flat[torch.tensor(expected["flat_index"])],
            torch.tensor(expected["values"], dtype=torch.float64),
            atol=3e-3,
            rtol=0,
        )
        assert flat.abs().sum().item() == pytest.approx(expected["abs_sum"], rel=1e-4)
        assert flat.square().sum().item() == pytest.approx(expected["sq_sum"], rel=1e-4)


@pytest.mark.parametrize("input_name", cases.INPUTS)
@pytest.mark.parametrize("name", cases.BACKBONE_CASES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-9)], ids=["f32", "f64"]
)
def test_outputs_and_tokens(
    name: str, input_name: str, dtype: torch.dtype, tolerance: float
) -> None:
    case = load_case(name)
    network = build(case).to(dtype)
    images = case.io[f"{input_name}.input"].to(dtype)
    with torch.no_grad():
        outputs = list(network(images).values())
        intermediates = network.forward_intermediates(images)
    for output, expected in zip(outputs, case.outputs(input_name), strict=True):
        assert_close_to_maximum(output, expected, tolerance)
    for point in cases.POINTS:
        for branch, feature in enumerate(intermediates[point]):
            tokens = feature.flatten(2).transpose(1, 2)
            assert_close_to_maximum(tokens, case.tokens(input_name, point, branch), tolerance)


@pytest.mark.parametrize("input_name", cases.INPUTS)
@pytest.mark.parametrize("name", cases.BACKBONE_CASES)
def test_gradients_float64(name: str, input_name: str) -> None:
    case = load_case(name)
    network = build(case).double()
    images = case.io[f"{input_name}.input"].double().requires_grad_()
    loss = cases.golden_loss(list(network(images).values()))
    loss.backward()
    expected = case.gradients[input_name]
    assert loss.item() == pytest.approx(expected["loss_f64"], rel=1e-9)
    assert images.grad.norm().item() == pytest.approx(expected["input_grad_norm_f64"], rel=1e-6)
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    names = parameter_by_official_name(case)
    for official, norm in expected["param_grad_norm_f64"].items():
        if not norm:
            continue
        gradient = gradients[names[official]].flatten()
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-6), official
        waves = torch.cos(0.1 * torch.arange(gradient.numel(), dtype=torch.float64))
        dot = torch.dot(gradient, waves).item()
        assert dot == pytest.approx(
            expected["param_grad_dot_f64"][official], rel=1e-6, abs=1e-6 * norm
        ), official


@pytest.mark.parametrize("input_name", cases.INPUTS)
def test_gradients_float32(input_name: str) -> None:
    """Kinks of sampling, ReLU and pooling leave a few parameters less exact."""
    case = load_case("grad_tsb3_train")
    network = build(case)
    cases.golden_loss(list(network(case.io[f"{input_name}.input"].float()).values())).backward()
    names = parameter_by_official_name(case)
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    norms = case.gradients[input_name]["param_grad_norm_f64"]
    errors = torch.tensor(
        [abs(gradients[names[name]].norm().item() / norm - 1) for name, norm in norms.items()]
    )
    assert errors.max() < 1e-2
    assert (errors < 1e-3).double().mean() >= 0.99


@pytest.mark.parametrize("input_name", cases.INPUTS)
def test_full_gradients(input_name: str) -> None:
    case = load_case("grad_tsb3_train")
    network = build(case).double()
    images = case.io[f"{input_name}.input"].double().requires_grad_()
    cases.golden_loss(list(network(images).values())).backward()
    names = parameter_by_official_name(case)
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    expected = cases.full_gradients(input_name)
    assert_close_to_maximum(images.grad, expected.pop("__input__").double(), 1e-6)
    assert len(expected) == len(gradients)
    for official, gradient in expected.items():
        assert_close_to_maximum(gradients[names[official]], gradient.double(), 1e-6)


def assert_close_to_maximum(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Compares relative to the largest value of the expected tensor."""
    assert actual.shape == expected.shape
    largest = expected.abs().max().item()
    torch.testing.assert_close(actual.double(), expected.double(), atol=tolerance * largest, rtol=0)
