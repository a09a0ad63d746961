"""Compiling the backbone through the configuration."""

from __future__ import annotations

import logging

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from piip_d2.engine.compilation import compile_as_configured, compile_backbone
from piip_d2.modeling.backbone import PIIPNetwork, build_network
from tests.export.small import small_branches


@pytest.fixture
def network() -> PIIPNetwork:
    torch.compiler.reset()
    return build_network(small_branches(64), num_interactions=1)


def test_one_graph_gives_the_same_maps_for_all_sizes(network: PIIPNetwork) -> None:
    detector = nn.ModuleDict({"backbone": network}).eval()
    names = list(detector.state_dict())
    # A map of one window has a layout in memory, and so a graph, of its own.
    sizes = [(128, 160), (192, 128), (224, 224)]
    images = [torch.randn(2, 3, *size) for size in sizes]
    with torch.no_grad():
        expected = [network(image) for image in images]
        assert compile_backbone(detector, backend="eager", dynamic=True) == 1
        with torch.compiler.set_stance("default"):
            outputs = [network(images[0])]
        with torch.compiler.set_stance("fail_on_recompile"):
            outputs += [network(image) for image in images[1:]]
    assert list(detector.state_dict()) == names
    torch.testing.assert_close(outputs, expected)


def test_gradients_are_the_same(network: PIIPNetwork) -> None:
    network.train()
    for module in network.modules():
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    images = torch.randn(2, 3, 128, 128)

    def gradients() -> dict[str, torch.Tensor]:
        network.zero_grad()
        sum(x.square().mean() for x in network(images).values()).backward()
        return {name: p.grad.clone() for name, p in network.named_parameters()}

    expected = gradients()
    compile_backbone(network, backend="aot_eager")
    torch.testing.assert_close(gradients(), expected)


@pytest.mark.slow
@pytest.mark.parametrize("is_training", [False, True])
def test_machine_code_gives_the_same_maps(network: PIIPNetwork, is_training: bool) -> None:
    images = torch.randn(2, 3, 128, 160)
    with torch.set_grad_enabled(is_training):
        expected = network.eval()(images)
        compile_backbone(network, dynamic=True)
        output = network(images)
    torch.testing.assert_close(output, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("enabled", "message"), [(True, "has no PIIP"), (False, None)])
def test_models_without_a_pyramid(
    enabled: bool, message: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"enabled": enabled, "backend": "eager", "mode": "default", "dynamic": None}
    with caplog.at_level(logging.INFO, logger="piip_d2.engine.compilation"):
        compile_as_configured(OmegaConf.create({"train": {"compile": options}}), nn.Linear(2, 2))
    assert (message in caplog.text) if message else not caplog.text
