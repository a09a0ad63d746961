"""What runs is counted: against closed forms, fvcore's traces and PyTorch's own counter."""

from __future__ import annotations

import time
import warnings
from typing import Any

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from piip_d2.analysis import actual, count_costs, fvcore_handles, operators
from piip_d2.analysis.actual import _LAYERS, IMAGE_PYRAMID
from piip_d2.layers import MSDeformAttn
from piip_d2.modeling.backbone import (
    CrossBranchAttention,
    PIIPNetwork,
    ViTBranch,
    build_network,
)
from piip_d2.modeling.backbone.beit import BEiTBranch
from piip_d2.modeling.backbone.convnext import ConvNeXtBranch
from piip_d2.modeling.backbone.timm_branch import TimmBranch
from piip_d2.modeling.backbone.uniperceiver import UniPerceiverBranch
from piip_d2.ops import has_extension, ms_deform_attn
from tests.analysis.published import build_published, resolutions_of
from tests.analysis.small import SIZES, WIDTHS, WINDOW, small_network

NORM = 5
BILINEAR, BICUBIC = 4, 16
VARIANTS: dict[str, dict[str, Any]] = {
    "deformable": {},
    "regular": {"attention": "regular"},
    "bare": {"attention": "regular", "with_projection": False, "with_norm": False},
    "no interaction": {"num_interactions": 0},
    "single convolutions": {"attention": "regular", "merge": "single_conv"}
    | {"out_interactions": [0], "out_features": ["res3", "res4"]},
    "light merge": {"attention": "regular", "merge": "light"},
    "one branch merged": {"attention": "regular", "merged_branches": [0]},
}


def branch_flops(width: int, side: int) -> int:
    cells = side**2
    filled = (-(-side // WINDOW) * WINDOW) ** 2
    embed = cells * 3 * 16**2 * width + BICUBIC * cells * width
    layers = 2 * (2 * NORM * cells * width + cells * width**2 + 8 * cells * width**2)
    qkv = 3 * width**2 * (filled + cells)
    # One block attends within windows, the other globally.
    attention = 2 * filled * WINDOW**2 * width + 2 * cells**2 * width
    return embed + layers + qkv + attention


def direction_flops(width: int, cells: int, other_width: int, other_cells: int) -> int:
    heads, points, hidden = 4, 4, width // 4
    projection = other_cells * other_width * width
    norms = NORM * (2 * cells + other_cells) * width
    attention = cells * width * 3 * heads * points + (cells + other_cells) * width * width // 2
    sampling = 5 * cells * points * width // 2
    ffn = 2 * cells * width * hidden + 9 * cells * hidden
    return projection + norms + attention + sampling + ffn


def test_equals_a_closed_form() -> None:
    report = count_costs(small_network())
    high_side, low_side = (size // 16 for size in SIZES)
    high, low = WIDTHS
    assert report.part("branches.1").flops == branch_flops(high, high_side)
    assert report.part("branches.0").flops == branch_flops(low, low_side)
    unit = direction_flops(low, low_side**2, high, high_side**2)
    unit += direction_flops(high, high_side**2, low, low_side**2)
    assert report.part("interactions.1").flops == unit
    assert report.part("interactions").flops == 2 * unit
    assert report.part(IMAGE_PYRAMID).flops == BILINEAR * 3 * SIZES[1] ** 2
    merge = sum(
        side**2 * (9 * width * low + 9 * low**2 + 2 * NORM * low)
        for width, side in ((low, low_side), (high, high_side))
    )
    assert report.part("merge").flops == merge + BILINEAR * high_side**2 * low
    cells = high_side**2
    double = 4 * low**2 * cells
    res2 = double + NORM * 4 * cells * low + 4 * double
    assert report.part("feature_maps").flops == res2 + double + cells * low


def products(network: nn.Module, images: Tensor) -> int:
    """Multiply-adds that PyTorch counts; it takes a multiply-add for two operations."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images)
    return counter.get_total_flops() // 2


def without_rest(network: PIIPNetwork, size: tuple[int, int], monkeypatch: Any) -> int:
    """What we count of products alone, which is what PyTorch counts."""
    kept = {
        packet: handle
        for packet, handle in operators._HANDLES.items()
        if packet.__name__ in ("mm", "addmm", "bmm", "convolution")
    }
    with monkeypatch.context() as patch:
        patch.setattr(operators, "_HANDLES", kept)
        patch.setattr(actual, "_LAYERS", {})
        return count_costs(network, image_size=size).flops


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_the_counter_of_pytorch(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = small_network(**VARIANTS[variant]).eval()
    size = (112, 176)
    images = torch.empty(1, 3, *size, device="meta")
    assert without_rest(network, size, monkeypatch) == products(network.to("meta"), images)


class Outputs(nn.Module):
    """A network whose maps come as a tuple, which can be traced."""

    def __init__(self, network: PIIPNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(images).values())


# Deformable attention cannot be traced, as it wants sizes to be no tensors; what nothing comes of,
# as in the last interaction with one branch merged, falls out of a traced graph, though it runs.
@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - {"deformable", "one branch merged"}))
def test_equals_the_traces_of_fvcore(variant: str) -> None:
    network = small_network(**VARIANTS[variant]).eval()
    size = (96, 160)
    analysis = FlopCountAnalysis(Outputs(network), (torch.zeros(1, 3, *size),))
    analysis.set_op_handle(**fvcore_handles())
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with warnings.catch_warnings():
        # Tracing warns of every size that Python computes with.
        warnings.simplefilter("ignore")
        traced = analysis.by_module()
        costly = {"matmul", "linear", "conv", "attention", "deform", "norm", "upsample"}
        assert not [name for name in analysis.unsupported_ops() if any(x in name for x in costly)]
    report = count_costs(network, image_size=size)
    assert report.flops == traced[""]
    for name in ("merge", "feature_maps"):
        assert report.part(name).flops == traced[f"network.{name}"]
    if network.interactions:
        assert report.part("interactions").flops == traced["network.interactions"]


def test_handles_for_the_operators_of_deformable_attention() -> None:
    layer = MSDeformAttn(32, num_heads=4, num_points=3, value_ratio=0.5)

    class FixedSizes(nn.Module):
        def forward(self, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
            return ms_deform_attn(value, [(6, 10)], locations, weights)

    inputs = (torch.zeros(1, 60, 4, 4), torch.zeros(1, 7, 4, 1, 3, 2), torch.zeros(1, 7, 4, 1, 3))
    if not has_extension():
        pytest.skip("without the compiled operators there is nothing to handle")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        analysis = FlopCountAnalysis(FixedSizes(), inputs).set_op_handle(**fvcore_handles())
        assert analysis.total() == 5 * 7 * 3 * layer.value_proj.out_features


def test_layers_counted_from_sizes_equal_the_counter_of_pytorch() -> None:
    layer = MSDeformAttn(32, num_heads=4, num_points=3, value_ratio=0.5, kv_dim=16)
    query, feature = torch.zeros(2, 12, 32), torch.zeros(2, 60, 16)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(query, None, feature, [(6, 10)], query_grid=(3, 4))
    linear = sum(
        flops
        for operator, flops in counter.get_flop_counts()["Global"].items()
        if operator in (torch.ops.aten.addmm, torch.ops.aten.mm, torch.ops.piip_d2.linear)
    )
    plain, sampling = _LAYERS[MSDeformAttn](layer, query, None, feature, [(6, 10)])
    assert plain == linear // 2
    assert sampling == 5 * 2 * 12 * 3 * 16


OTHER_BRANCHES = {
    "beit": lambda: BEiTBranch(img_size=64, embed_dim=32, depth=2, num_heads=2, window_size=3),
    "uniperceiver": lambda: UniPerceiverBranch(img_size=64, embed_dim=32, depth=2, num_heads=2),
    "convnext": lambda: ConvNeXtBranch(img_size=64, depths=(1, 2, 1), dims=(32, 32, 64)),
    "timm": lambda: TimmBranch("vit_tiny_patch16_224", img_size=64),
    "rms norms": lambda: ViTBranch(
        img_size=64, embed_dim=32, depth=2, num_heads=2, norm="rms", qk_norm=True
    ),
}


@pytest.mark.parametrize("family", OTHER_BRANCHES)
def test_other_branches(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network(
        [OTHER_BRANCHES[family]()], num_interactions=0, merge="none", out_features=["res5"]
    )
    report = count_costs(network)
    images = torch.empty(1, 3, 64, 64, device="meta")
    counted = without_rest(network, (64, 64), monkeypatch)
    assert counted == products(network.eval().to("meta"), images) > 0
    assert counted < report.flops
    assert report.params == sum(parameter.numel() for parameter in network.parameters())


def test_rms_norms_cost_what_layer_norms_do() -> None:
    flops = []
    for norm in ("rms", "layer"):
        branch = ViTBranch(img_size=64, embed_dim=32, depth=2, num_heads=2, norm=norm, qk_norm=True)
        network = build_network([branch], num_interactions=0, merge="none")
        flops.append(count_costs(network).flops)
    assert flops[0] == flops[1]


def test_cores_of_attention_are_told_apart() -> None:
    report = count_costs(small_network())
    side = SIZES[0] // 16
    filled = (-(-side // WINDOW) * WINDOW) ** 2
    seen = filled * WINDOW**2 + side**4
    assert report.part("branches.1").attention_flops == 2 * seen * WIDTHS[0]
    assert 0 < report.part("interactions").attention_flops < report.part("interactions").flops
    assert report.part("merge").attention_flops == 0


def test_the_network_stays_as_it_is() -> None:
    network = small_network()
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    count_costs(network, resolutions=[192, 96])
    assert network.training
    assert [branch.img_size for branch in network.branches] == [48, 96]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    assert "forward" not in vars(network.branches[0])
    assert isinstance(network.interactions[0].units[0].high_to_low, CrossBranchAttention)


def test_resolutions_and_image_size() -> None:
    network = small_network()
    assert count_costs(network).image_size == (96, 96)
    larger = count_costs(network, resolutions=[192, 96])
    assert larger.image_size == (192, 192) and larger.resolutions == (192, 96)
    assert larger.part("merge").flops == 4 * count_costs(network).part("merge").flops
    wide = count_costs(network, image_size=(96, 192))
    assert wide.part("merge").flops == 2 * count_costs(network).part("merge").flops
    with pytest.raises(ValueError, match="image_size must be a height and a width"):
        count_costs(network, image_size=(0, 96))
    with pytest.raises(ValueError, match="too small"):
        count_costs(network, image_size=(16, 16))


def test_seven_billion_parameters_in_seconds() -> None:
    name = "3branch/mask_rcnn_internvit_lh6b_1536_1024_512_fpn_1x_coco_bs32_ms"
    network, resolutions = build_published(name), resolutions_of(name)
    start = time.process_time()
    report = count_costs(network, resolutions=resolutions)
    assert time.process_time() - start < 20
    assert report.params > 7e9
    # The script's count misses the feature maps, and the image pyramid.
    script = count_costs(network, resolutions=resolutions, convention="released_script")
    for name in ("branches.0", "branches.1", "branches.2", "merge"):
        assert report.part(name).flops == pytest.approx(script.part(name).flops, rel=2e-3)
