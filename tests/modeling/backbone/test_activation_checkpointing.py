"""All ways to recompute activations, in branches, networks and detectors."""

from __future__ import annotations

import pytest
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from piip_d2.engine.build import set_activation_checkpointing
from piip_d2.layers.activation_checkpoint import ACT_CHECKPOINT_MODES
from piip_d2.modeling.backbone import (
    Branch,
    ConvNeXtBranch,
    PIIPNetwork,
    TimmBranch,
    ViTBranch,
    build_network,
)

SMALL_VIT = {"embed_dim": 32, "depth": 3, "num_heads": 2, "drop_path_rate": 0.5}


def make_network() -> PIIPNetwork:
    """Two branches with stochastic depth and two interactions; a block behind the last."""
    torch.manual_seed(0)
    branches = [
        ViTBranch(img_size=size, **SMALL_VIT, window_size=[2, None, 2]) for size in (128, 64)
    ]
    indexes = [[0, 1], [0, 2]]
    network = build_network(
        branches, interaction_block_indexes=indexes, num_heads=4, drop_path_rate=0.5
    )
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.5)
    return network


def loss_and_gradients(module: nn.Module, images: Tensor, *, amp: bool = False) -> list[Tensor]:
    module.zero_grad()
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        if isinstance(module, Branch):
            maps = [module.forward_blocks(module.embed(images), 0, module.num_blocks)]
        else:
            maps = list(module(images).values())
    loss = torch.stack([x.float().square().mean() for x in maps]).sum()
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in module.parameters() if p.grad is not None)]


@pytest.mark.parametrize("amp", [False, True], ids=["float32", "autocast"])
def test_networks_learn_the_same(amp: bool) -> None:
    network, images = make_network().train(), torch.randn(2, 3, 128, 96)
    assert any(isinstance(module, DropPath) for module in network.modules())
    plain = loss_and_gradients(network, images, amp=amp)
    for mode in ACT_CHECKPOINT_MODES:
        assert set_activation_checkpointing(network.modules(), mode) == 3
        found = loss_and_gradients(network, images, amp=amp)
        assert all(torch.equal(x, y) for x, y in zip(plain, found, strict=True)), mode


@pytest.mark.parametrize("kind", ["convnext", "timm_convnext", "timm_rotary"])
@pytest.mark.parametrize("mode", ACT_CHECKPOINT_MODES)
def test_other_branches_learn_the_same(kind: str, mode: str) -> None:
    convolutions = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
    if kind == "convnext":
        branch: Branch = ConvNeXtBranch(img_size=64, **convolutions)
    elif kind == "timm_convnext":
        branch = TimmBranch("convnext_tiny", img_size=64, **convolutions)
    else:
        options = {"embed_dim": 32, "depth": 2, "num_heads": 2}
        branch = TimmBranch("vit_small_patch16_dinov3", img_size=64, **options)
    images = torch.rand(1, 3, 64, 64)
    plain = loss_and_gradients(branch.train(), images)
    branch.use_act_checkpoint = mode
    found = loss_and_gradients(branch, images)
    assert all(torch.equal(x, y) for x, y in zip(plain, found, strict=True))


def test_stages_keep_less_than_blocks() -> None:
    branch = ViTBranch(img_size=64, embed_dim=32, depth=4, num_heads=2).train()
    x = torch.randn(1, 4, 4, 32, requires_grad=True)

    def kept(mode: bool | str) -> int:
        branch.use_act_checkpoint = mode
        storages = {}

        def keep(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
            return tensor

        weights = {p.untyped_storage()._cdata for p in branch.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = branch.forward_blocks(x, 0, 4)
        del output
        return sum(s.nbytes() for key, s in storages.items() if key not in weights)

    sizes = {mode: kept(mode) for mode in (False, "block", "stage")}
    # The hooks of the outside see what a checkpoint keeps: the inputs of what runs again.
    assert sizes["stage"] <= x.nbytes
    assert sizes["stage"] < sizes["block"] < sizes[False] / 4


def test_no_blocks_are_no_stage() -> None:
    branch = ViTBranch(img_size=64, embed_dim=32, depth=2, num_heads=2, use_act_checkpoint="stage")
    x = torch.randn(1, 4, 4, 32)
    assert branch.train().forward_blocks(x, 2, 2) is x


def test_modes_are_checked_where_a_network_is_built() -> None:
    with pytest.raises(ValueError, match="activation checkpointing must be .* got 'stages'"):
        ViTBranch(img_size=64, embed_dim=32, depth=2, num_heads=2, use_act_checkpoint="stages")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["stage", "selective"])
def test_compiled_networks_learn_the_same(mode: str) -> None:
    network, images = make_network().train(), torch.randn(1, 3, 128, 96)
    for module in network.modules():
        if isinstance(module, DropPath):
            # Compiled programs draw other numbers.
            module.drop_prob = 0.0
    plain = loss_and_gradients(network, images)
    set_activation_checkpointing(network.modules(), mode)
    torch.compiler.reset()
    network.compile(fullgraph=True, backend="aot_eager")
    for expected, found in zip(plain, loss_and_gradients(network, images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
