"""What configurations of the reference may look like, and what is wrong with some."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from piip_d2.checkpoint import (
    build_from_official,
    convert_backbone_state_dict,
)
from piip_d2.modeling.backbone.beit import BEiTBranch
from piip_d2.modeling.backbone.uniperceiver import UniPerceiverBranch
from piip_d2.modeling.backbone.vit import ViTBranch
from tests.golden import cases

VIT: dict[str, Any] = {
    "embed_dim": 32,
    "depth": 3,
    "num_heads": 2,
    "patch_size": 16,
    "pretrain_img_size": 64,
    "pretrained": "deit",
}


def pyramid(*branches: dict[str, Any], **options: Any) -> dict[str, Any]:
    """A configuration with two or more branches, each a change to a small one."""
    kind = {2: "PIIPTwoBranch", 3: "PIIPThreeBranch", 4: "PIIPFourBranch"}[len(branches)]
    common = {"interaction_indexes": [[0, 0], [1, 2]]}
    return {
        "type": kind,
        "deform_num_heads": 4,
        **{
            f"branch{number}": {**VIT, **common, "real_size": 32 + 32 * number, **branch}
            for number, branch in enumerate(branches, start=1)
        },
        **options,
    }


def names_and_shapes(config: dict[str, Any], **options: Any) -> dict[str, torch.Size]:
    network = build_from_official(config, **options)
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def test_dino_leaves_out_the_unused_upsampler() -> None:
    config = cases.vector_cases()["tsb_dino"]["config"]
    network = build_from_official(config)
    assert list(network.feature_maps.maps) == ["res3", "res4", "res5"]


def test_branches_may_stand_apart() -> None:
    config = pyramid({}, {})
    branches = {name: config.pop(name) for name in ("branch1", "branch2")}
    parts = {"backbone": config, "branches": branches}
    assert names_and_shapes(parts) == names_and_shapes({**config, **branches})


def test_lists_may_be_runs() -> None:
    config = pyramid({"window_attn_rle": [[True, 2], [False, 1]], "window_size_rle": [[7, 3]]}, {})
    blocks = build_from_official(config).branches[0].blocks
    assert [block.attn.window_size for block in blocks] == [7, 7, None]


def test_unknown_arguments_are_not_read() -> None:
    config = pyramid({"with_fpn": False, "output_dtype": "float32"}, {}, cal_flops=True)
    assert names_and_shapes(config) == names_and_shapes(pyramid({}, {}))


def test_family_by_path_or_type() -> None:
    paths = ["deit_beit.pth", "beit_perceiver.pth", "perceiver.pth", "vit.pth"]
    config = pyramid(*({"pretrained": path} for path in paths))
    kinds = [type(branch) for branch in build_from_official(config).branches]
    assert kinds == [ViTBranch, BEiTBranch, UniPerceiverBranch, ViTBranch]
    config["branch1"]["type"] = "BEiT"
    assert type(build_from_official(config).branches[0]) is BEiTBranch


def test_defaults_of_intern_vit() -> None:
    config = pyramid({"pretrained": "x"}, {})
    branch = build_from_official(config).branches[0]
    block = branch.blocks[-1]
    assert branch.drop_path_schedule == "linear"
    assert isinstance(block.norm1, torch.nn.RMSNorm)
    assert isinstance(block.attn.q_norm, torch.nn.RMSNorm)
    assert block.attn.qkv.bias is None
    assert block.ls1.gamma[0].item() == pytest.approx(0.1)


def test_defaults_of_deit() -> None:
    block = build_from_official(pyramid({"window_attn": True}, {})).branches[0].blocks[0]
    assert (block.attn.window_size, block.attn.window_padding) == (14, "after_qkv")
    assert block.ls1.gamma[0].item() == pytest.approx(1e-4)
    assert block.norm1.eps == 1e-6


def test_uni_perceiver_takes_a_table_of_any_size() -> None:
    config = pyramid({"pretrained": "perceiver"}, {})
    network = build_from_official(config)
    weights = network.state_dict()
    weights["branches.0.pos_embed"] = torch.ones(1, 196, 32)
    network.load_state_dict(weights)
    assert network.branches[0].pos_embed.shape == (1, 196, 32)
    assert torch.isfinite(network(torch.rand(1, 3, 96, 96))["res4"]).all()


def test_blocks_behind_the_last_interaction_never_run(caplog: pytest.LogCaptureFixture) -> None:
    shallow, deep = {"depth": 3}, {"depth": 5}
    config = pyramid(deep, {})
    assert names_and_shapes(config) == names_and_shapes(pyramid(shallow, {}))
    assert "last 2 blocks of branch1 follow no interaction" in caplog.text
    weights = {"branch1.blocks.2.norm1.bias": torch.ones(1), "w1": torch.ones(())}
    unused = {"branch1.blocks.3.norm1.bias": torch.ones(1)}
    converted = convert_backbone_state_dict({**weights, **unused}, config)
    assert set(converted) == {"branches.0.blocks.2.norm1.bias", "merge.weights.0"}


def test_fourth_branch_as_released_keeps_its_place_in_the_pyramid() -> None:
    small = {"embed_dim": 16, "depth": 2, "interaction_indexes": [[0, 0], [1, 1]]}
    config = pyramid({}, {}, {}, small)
    released = build_from_official(config, four_branch="as_released")
    assert released.branches[3].img_size == 160
    assert released.branches[3].embed_dim == 32
    assert released.interaction_block_indexes[3] == [0, 1]
    assert build_from_official(config).branches[3].embed_dim == 16
    deep = pyramid({}, {}, {}, {"depth": 5, "interaction_indexes": [[0, 1], [2, 4]]})
    with pytest.raises(
        ValueError, match="last of the 3 blocks, but those of branch4 end at number 4"
    ):
        build_from_official(deep, four_branch="as_released")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (pyramid({}, {"patch_size": 8}), r"\(patch_size=16\), .*got \[8\]"),
        (pyramid({"real_size": 128}, {}), r"real_size must not decrease .*got \[128, 96\]"),
        ({**VIT, "type": "vit_models", "patch_size": 14}, r"stride 16 .*got \[14\]"),
    ],
)
def test_maps_of_other_strides_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_from_official(config)


def test_convolutional_maps_of_other_strides_are_refused() -> None:
    case = cases.BackboneCase("convnext_cnn_out")
    # The second map is then taken where the third belongs.
    config = {**case.config, "out_interaction_indexes": [0, 1, 1]}
    with pytest.raises(ValueError, match=r"out_interaction_indexes .*got \[4, 8, 8, 32\]"):
        build_from_official(config, convnext_sizes=case.convnext_sizes)


def test_prefix_is_optional() -> None:
    case = cases.BackboneCase("two_branch_dino")
    prefixed = {f"backbone.{name}": tensor for name, tensor in case.weights.items()}
    assert list(convert_backbone_state_dict(prefixed, case.config)) == list(
        convert_backbone_state_dict(case.weights, case.config)
    )


def test_data_parallel_prefix_is_optional() -> None:
    weights = {"module.backbone.w1": torch.ones(()), "module.w2": torch.ones(())}
    assert list(convert_backbone_state_dict(weights, {})) == ["merge.weights.0", "merge.weights.1"]


def test_unknown_key_is_refused() -> None:
    with pytest.raises(KeyError, match=r"^1 keys are unknown.*stem\.weight") as caught:
        convert_backbone_state_dict({"stem.weight": torch.zeros(1)}, {})
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "ResNet"}, "type must be one of .*'vit_models'.*got 'ResNet'"),
        ({"branch2": None}, "needs the dicts branch1, branch2; branch2 is not there"),
        ({"type": "PIIPTwoBranch", "branch4": {}}, "has 2 branches of its own, but branch4 is"),
        ({"type": "vit_models"}, "has no branches of its own, but branch1, branch2 is there too"),
        ({"norm_layer": "BN"}, "norm_layer='BN' makes a network that cannot be built here"),
        ({"branch1_w_cls_token": True}, "branch1_w_cls_token=True makes .* False or None"),
        ({"interact_attn_type": "defrom"}, "interact_attn_type must be one of .*'deform'"),
    ],
)
def test_unknown_parts_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_from_official({**pyramid({}, {}), **change})


@pytest.mark.parametrize(
    ("branch", "message"),
    [
        ({"pretrained": None}, "a branch needs 'pretrained', whose text tells its family"),
        ({"type": "ResNet"}, "a branch's type must be one of .*got 'ResNet'"),
        ({"pretrained": "convnext-nano"}, "sizes of the ConvNeXt 'convnext-nano' are not known"),
        ({"pretrained": "beit", "use_abs_pos_emb": True}, "has relative positions alone"),
        ({"pretrained": "x", "norm_layer_type": "BN"}, "norm_layer_type must be one of .*'BN'"),
        ({"with_final_norm": True}, "with_final_norm=True makes .*; it can with False"),
        ({"attn_drop_rate": 0.1}, "attn_drop_rate=0.1 makes a network"),
        ({"drop_rate": 0.1}, "drop_rate=0.1 makes a network"),
        ({"Patch_layer": "hMLP_stem"}, "Patch_layer='hMLP_stem' makes a network"),
        ({"block_layers": "Block_paralx2"}, "block_layers='Block_paralx2' makes a network"),
        ({"norm_layer": "BN"}, "norm_layer='BN' makes a network"),
        ({"Mlp_block": "fused"}, "Mlp_block='fused' makes .* 'Mlp' or 'fused_mlp'"),
        ({"mlp_type": "fused"}, "mlp_type='fused' makes a network"),
        ({"window_attn": [True]}, "window_attn must have one entry for each of the 3 blocks"),
        ({"interaction_indexes": []}, "branch1 needs interaction_indexes"),
        ({"interaction_indexes": [[0, 0], [2, 2]]}, r"without gaps .*branch1 has \[\[0, 0\], \[2"),
        ({"interaction_indexes": [[0, 1], [2, 3]]}, "end at the last of the 3 blocks"),
        (
            {"interaction_indexes": [[0, 2]]},
            "the same number of interactions, but .* has 1 in branch1, 2 in branch2",
        ),
    ],
)
def test_wrong_branches_are_refused(branch: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_from_official(pyramid(branch, {}))


def test_convnext_must_run_to_its_end() -> None:
    name = "facebook/convnext-mini"
    sizes = {name: {"hidden_sizes": [32, 32, 32, 32], "depths": [1, 1, 1, 1]}}
    config = pyramid({"pretrained": name}, {})
    with pytest.raises(ValueError, match="end at the last of the 7 blocks, but those of branch1"):
        build_from_official(config, convnext_sizes=sizes)


def test_single_network_makes_maps_of_its_last_block() -> None:
    config = {**VIT, "type": "vit_models", "out_indices": [1]}
    with pytest.raises(ValueError, match=r"out_indices must be \[2\], the last block"):
        build_from_official(config)


@pytest.mark.parametrize("indices", [None, [2], (2,)])
def test_last_block_is_where_maps_come_from(indices: Any) -> None:
    config = {**VIT, "type": "vit_models", "out_indices": indices}
    assert build_from_official(config).branches[0].num_blocks == 3


def test_single_network_without_maps_is_refused() -> None:
    config = {**VIT, "type": "vit_models", "with_fpn": False}
    with pytest.raises(ValueError, match="with_fpn=False makes a network that cannot be built"):
        build_from_official(config)


@pytest.mark.parametrize("config", [[pyramid({}, {})], {"backbone": {}, "branches": [{}]}])
def test_configurations_are_dicts(config: Any) -> None:
    with pytest.raises(ValueError, match="must be a dict, as must its branches, got list"):
        build_from_official(config)


def test_test_networks_are_not_recommended() -> None:
    with pytest.raises(ValueError, match="facebook/convnext-base-224") as caught:
        build_from_official(pyramid({"pretrained": "convnext-nano"}, {}))
    assert "mini" not in str(caught.value)


def test_unknown_four_branch_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="four_branch must be one of"):
        build_from_official(pyramid({}, {}), four_branch="fixed")


def test_fourth_branch_is_told_from_the_weights(caplog: pytest.LogCaptureFixture) -> None:
    config = {"branch3": {"embed_dim": 6}, "branch4": {"embed_dim": 3}}
    name = "branch4.patch_embed.proj.weight"
    convert_backbone_state_dict({name: torch.zeros(3, 3, 16, 16)}, config)
    assert not caplog.records
    convert_backbone_state_dict({f"backbone.{name}": torch.zeros(6, 3, 16, 16)}, config)
    assert 'They fit what four_branch="as_released" builds' in caplog.text
    with pytest.raises(ValueError, match=r"has 5 channels, but the configuration has 3 \(or 6"):
        convert_backbone_state_dict({name: torch.zeros(5, 3, 16, 16)}, config)
