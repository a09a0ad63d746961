"""Backbones by name: what is built, what goes into them, and what they say about themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import LazyCall, instantiate
from torch import Tensor

from piip_d2.analysis.without_numbers import without_numbers
from piip_d2.backbones import build_backbone, freeze, list_backbones, load_backbone_weights
from piip_d2.checkpoint import export_backbone_state_dict
from piip_d2.modeling.backbone import PIIPNetwork, build_network, build_vit_branch
from piip_d2.modeling.backbone.zoo import STRUCTURES, Structure, ZooBranch
from piip_d2.solver.param_groups import get_piip_param_groups
from tests.configs.loading import load
from tests.golden.published import published_keys
from tests.test_imports import run_without

OFFICIAL_TINY = {
    "type": "PIIPTwoBranch",
    **{
        f"branch{number}": {
            "type": "vit_models",
            "real_size": side,
            "pretrain_img_size": 224,
            "patch_size": 16,
            "pretrain_patch_size": 16,
            "embed_dim": 32,
            "depth": 2,
            "num_heads": 2,
            "interaction_indexes": [[0, 0], [1, 1]],
        }
        for number, side in ((1, 64), (2, 128))
    },
}


@pytest.fixture(scope="module")
def network() -> PIIPNetwork:
    torch.manual_seed(0)
    branches = [
        build_vit_branch("vit_tiny", img_size=side, embed_dim=32, depth=2, num_heads=2)
        for side in (128, 64)
    ]
    return build_network(branches, num_interactions=2, num_heads=4)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a network that is built at once."""
    size = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    branches = (ZooBranch("vit_tiny", size), ZooBranch("vit_base", {**size, "embed_dim": 64}))
    options = {"num_interactions": 2, "num_heads": 4}
    monkeypatch.setitem(STRUCTURES, "tiny", Structure(branches, (128, 64), options))
    return "tiny"


@pytest.mark.parametrize(
    "name", ["piip_tsb", "piip_ct_vs_vb", "piip_sbl_beit", "vit_b", "convnext_b", "piip_h6b"]
)
def test_describes_its_outputs_as_timm_does(name: str) -> None:
    with without_numbers():
        backbone = build_backbone(name)
    info = backbone.feature_info
    assert info.reduction() == [4, 8, 16, 32] == list(backbone.strides.values())
    assert info.channels() == list(backbone.channels.values())
    assert list(backbone.channels) == ["res2", "res3", "res4", "res5"]
    modules = dict(backbone.named_modules())
    assert all(module in modules for module in info.module_name())
    assert backbone.size_divisibility % 32 == 0


@pytest.mark.parametrize("names", [None, ("res3", "res4", "res5")])
def test_outputs_are_as_described(tiny: str, names: tuple[str, ...] | None) -> None:
    backbone = build_backbone(tiny, out_features=names).eval()
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 128, 96))
    assert tuple(maps) == (names or ("res2", "res3", "res4", "res5"))
    for name, channels, stride in zip(
        maps, backbone.feature_info.channels(), backbone.feature_info.reduction(), strict=True
    ):
        assert maps[name].shape == (1, channels, 128 // stride, 96 // stride)


def test_resolutions_and_options_reach_the_network() -> None:
    with without_numbers():
        backbone = build_backbone(
            "piip_sbl", (640, 320, 160), use_act_checkpoint=True, directions="all_pairs"
        )
        published = build_backbone("piip_sbl_mae")
    assert [branch.img_size for branch in backbone.branches] == [160, 320, 640]
    assert all(branch.use_act_checkpoint for branch in backbone.branches)
    assert backbone.use_act_checkpoint
    assert len(backbone.interactions[0].units) == 3
    assert [branch.img_size for branch in published.branches] == [672, 1120, 1568]
    assert [branch.use_act_checkpoint for branch in published.branches] == [True, True, False]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("piip_tbs", "piip_tsb"),
        ("PIIP-SBL", "piip_sbl"),
        ("mask_rcnn/piip_tsb_1120_896_448_1x", "piip_tsb"),
        ("dino/piip_sbl_1568_1120_672_1x", "piip_sbl"),
    ],
)
def test_unknown_name_lists_those_that_look_alike(name: str, near: str) -> None:
    message = (
        f"no backbone named '{name}'; did you mean {near}, .*lists all {len(list_backbones())}"
    )
    with pytest.raises(ValueError, match=message):
        build_backbone(name)
    with pytest.raises(ValueError, match=r"no backbone named 'resnet50'; piip_d2.list_backbones"):
        build_backbone("resnet50")


@pytest.mark.parametrize("resolutions", [(1120, 896), (448, 896, 1120), 1120])
def test_wrong_resolutions(resolutions: Any) -> None:
    message = r"piip_tsb has 3 branches \(deit_tiny, .*largest first, like \(1120, 896, 448\); got"
    with pytest.raises(ValueError, match=message):
        build_backbone("piip_tsb", resolutions)


def test_needs_no_detectron2() -> None:
    program = (
        "import torch, piip_d2\n"
        "with torch.device('meta'):\n"
        "    backbone = piip_d2.build_backbone('piip_tsb', resolutions=(1120, 896, 448))\n"
        "print(backbone.feature_info.channels())"
    )
    result = run_without(("detectron2", "fvcore", "omegaconf", "cv2", "matplotlib"), program)
    assert result.stdout.strip() == "[768, 768, 768, 768]", result.stderr


def test_what_needs_detectron2_says_so() -> None:
    program = "import piip_d2; piip_d2.Predictor"
    result = run_without(("detectron2",), program)
    assert "the package 'detectron2' is needed for piip_d2.Predictor" in result.stderr
    assert "installation section of README.md" in result.stderr


class TestWeights:
    """Whole networks under names of ours and of the authors."""

    @pytest.fixture
    def other(self, network: PIIPNetwork) -> PIIPNetwork:
        """The same network with other numbers."""
        branches = [
            build_vit_branch("vit_tiny", img_size=side, embed_dim=32, depth=2, num_heads=2)
            for side in (128, 64)
        ]
        return build_network(branches, num_interactions=2, num_heads=4)

    @pytest.mark.parametrize("prefix", ["", "backbone.bottom_up."])
    def test_of_its_own_or_below_a_detector(
        self, prefix: str, network: PIIPNetwork, other: PIIPNetwork, tmp_path: Path
    ) -> None:
        content = {prefix + name: x for name, x in network.state_dict().items()}
        content |= {"roi_heads.box_predictor.weight": torch.zeros(3)} if prefix else {}
        torch.save({"model": content, "iteration": 5}, tmp_path / "weights.pth")
        load_backbone_weights(other, str(tmp_path / "weights.pth"))
        _assert_equal(other.state_dict(), network.state_dict())

    @pytest.mark.parametrize("prefix", ["", "backbone."])
    def test_of_the_authors(self, prefix: str, network: PIIPNetwork, other: PIIPNetwork) -> None:
        official = export_backbone_state_dict(network.state_dict(), OFFICIAL_TINY)
        content = {prefix + name: x for name, x in official.items()}
        content |= {"rpn_head.rpn_conv.weight": torch.zeros(3)} if prefix else {}
        load_backbone_weights(other, content)
        _assert_equal(other.state_dict(), network.state_dict())

    def test_of_another_network(self, network: PIIPNetwork, other: PIIPNetwork) -> None:
        before = {name: x.clone() for name, x in other.state_dict().items()}
        weights = dict(network.state_dict())
        weights["branches.0.blocks.0.attn.qkv.bias"] = torch.zeros(7)
        del weights["branches.1.pos_embed"]
        weights["branches.0.blocks.7.norm1.weight"] = torch.zeros(32)
        with pytest.raises(
            ValueError,
            match=r"not of this network: 1 missing \(branches.1.pos_embed\), 1 unknown "
            r"\(branches.0.blocks.7.*\), 1 of another shape \(.*its branches are ViTBranch of 2",
        ):
            load_backbone_weights(other, weights)
        _assert_equal(other.state_dict(), before)

    def test_of_a_single_network(self, other: PIIPNetwork) -> None:
        with pytest.raises(ValueError, match="of a network with 1 branches, but"):
            load_backbone_weights(other, {"blocks.0.norm1.weight": torch.zeros(3)})

    @pytest.mark.parametrize(
        ("name", "official"),
        [
            ("piip_tsb", "3branch/mask_rcnn_deit_tsb_1120_896_448_fpn_1x_coco_bs16"),
            ("piip_ct_vs_vb", "convnext/mask_rcnn_convnext-t_vit-s_vit-b_1024_672_448_regular-fpn"),
            ("vit_b", "baseline/mask_rcnn_deit_vit_b_fpn_1x_coco_bs16"),
        ],
    )
    def test_published_names_fit(self, name: str, official: str) -> None:
        with without_numbers():
            backbone = build_backbone(name)
        given = {
            f"backbone.{key}": x for key, x in published_keys()[official].meta_tensors().items()
        }
        load_backbone_weights(backbone, given)


def test_weights_of_single_networks(tiny: str, tmp_path: Path) -> None:
    single = build_vit_branch("vit_tiny", img_size=224, embed_dim=32, depth=2, num_heads=2)
    torch.save(single.state_dict(), tmp_path / "single.pth")
    backbone = build_backbone(tiny, branch_weights=[str(tmp_path / "single.pth"), ""])
    _assert_equal(backbone.branches[1].state_dict(), single.state_dict())
    with pytest.raises(ValueError, match="must be a list of 2, one for each branch"):
        build_backbone(tiny, branch_weights=["a"])


def test_unknown_option(tiny: str) -> None:
    message = "^build_backbone has no option 'bogus'; all options are .*merge.* num_heads.* resol"
    with pytest.raises(TypeError, match=message):
        build_backbone(tiny, bogus=1)
    with pytest.raises(TypeError, match=r"no option 'resolution'; did you mean resolutions\? All"):
        build_backbone(tiny, resolution=448)
    assert build_backbone(tiny, num_heads=2, merge="light").channels


def test_frozen_branch_of_a_configuration() -> None:
    cfg = load("quick/mask_rcnn_scenes").model.backbone.bottom_up
    cfg.branches[2] = LazyCall(freeze)(module=cfg.branches[2])
    network = instantiate(cfg)
    groups = get_piip_param_groups(network, base_lr=1e-4)
    trained = {id(x) for group in groups for x in group["params"]}
    # Inside, resolutions ascend.
    frozen, *others = (set(map(id, branch.parameters())) for branch in network.branches)
    assert not frozen & trained
    assert set().union(*others) <= trained


def test_checkpoint_of_a_run_fits_the_same_name(tiny: str, tmp_path: Path) -> None:
    trained = build_backbone(tiny)
    torch.save({"model": trained.state_dict()}, tmp_path / "trained.pth")
    loaded = build_backbone(tiny, (256, 96), checkpoint=str(tmp_path / "trained.pth"))
    _assert_equal(loaded.state_dict(), trained.state_dict())
    coarse = build_backbone(tiny, checkpoint=trained.state_dict(), out_features=["res4", "res5"])
    assert coarse.feature_info.reduction() == [16, 32]


def _assert_equal(given: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert given.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(given[name], tensor), name
