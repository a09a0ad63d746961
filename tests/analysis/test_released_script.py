"""The integers of the authors' script, for all their configurations."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from piip_d2.analysis import CostReport, count_costs
from piip_d2.analysis.without_numbers import without_numbers
from piip_d2.modeling.backbone import (
    Branch,
    ConvStem,
    PIIPNetwork,
    ViTBranch,
    build_network,
    build_vit_branch,
)
from tests.analysis.published import COSTS, build_published, resolutions_of

RECORDS = COSTS["script_records"]
# Names of groups of parameters in the records, and ours.
GROUPS = {
    "interactions": "interactions",
    "intermediate_merging": "stage_merges",
    "simple_fpn": "feature_maps",
    "merge_scalars": "merge.weights",
    "convnext_model": "branches.0",
}
PARTS_OF_SINGLE_BRANCH = {"pos_embed", "patch_embed", "blocks"}


def count(name: str, **options: Any) -> CostReport:
    return count_costs(
        build_published(name),
        resolutions=resolutions_of(name),
        convention="released_script",
        **options,
    )


@pytest.mark.parametrize("name", RECORDS)
def test_every_record(name: str) -> None:
    record = RECORDS[name]
    # In the records MLPs with tanh GELU are the fused kernel that the counter does not see.
    report = count(name, fused_mlp="uncounted")
    assert report.params == record["params"]
    assert report.flops == record["flops"]
    assert report.attention_flops == record["attention_flops"]
    assert report.resolutions[0] == record["shape"]
    check_groups_of_params(build_published(name), report, record["params_by_group"])
    check_flops_of_parts(report, record["flops_by_part"])


def check_groups_of_params(
    network: PIIPNetwork, report: CostReport, groups: dict[str, int]
) -> None:
    single = PARTS_OF_SINGLE_BRANCH & set(groups)
    if single:
        assert report.part("branches.0").params == sum(groups[name] for name in single)
    for name, expected in groups.items():
        if name not in single:
            assert report.part(our_name(name)).params == expected, name
    assert sum(groups.values()) == report.params


def check_flops_of_parts(report: CostReport, parts: dict[str, int]) -> None:
    if {"patch_embed", "blocks"} <= set(parts):
        branch = report.part("branches.0")
        seen = parts["patch_embed"] + parts["blocks"]
        assert branch.flops - branch.attention_flops == seen
        assert report.part("feature_maps").flops == sum(parts.values()) - seen
        return
    for name, expected in parts.items():
        if not name.startswith("fpn"):
            part = report.part(our_name(name))
            assert part.flops - part.attention_flops == expected, name


def our_name(name: str) -> str:
    if name in GROUPS:
        return GROUPS[name]
    words = name.split("_")
    place = int(words[-1].removeprefix("branch")) - 1
    if words[0] == "intermediate":
        return f"stage_merges.{words[2]}.projections.{place}"
    return f"merge.projections.{place}" if words[0] == "merge" else f"branches.{place}"


@pytest.mark.parametrize("name", COSTS["script_flops_with_fused_mlp"])
def test_fused_mlps_are_counted_unless_left_out(name: str) -> None:
    expected = COSTS["script_flops_with_fused_mlp"][name]
    assert count(name).flops == expected > RECORDS[name]["flops"]


def single_network(branch: Branch) -> PIIPNetwork:
    """One branch in the form of the released single networks."""
    return build_network([branch], num_interactions=0, merge="none", feature_norm="layer")


def test_nominal_sizes_unless_others_are_given() -> None:
    network = single_network(build_vit_branch("vit_tiny", img_size=160, depth=2))
    nominal = count_costs(network, convention="released_script")
    assert nominal.resolutions == (160,)
    assert nominal == count_costs(network, resolutions=[160], convention="released_script")
    assert (
        nominal.flops < count_costs(network, resolutions=[320], convention="released_script").flops
    )


def test_attention_that_fills_up_behind_the_projection() -> None:
    flops = []
    for padding in ("before_qkv", "after_qkv"):
        branch = build_vit_branch(
            "vit_tiny", img_size=160, window_size=14, window_padding=padding, depth=2
        )
        network = single_network(branch)
        flops.append(count_costs(network, convention="released_script").flops)
    filled_up = 14**2 - 10**2
    assert flops[0] - flops[1] == 2 * filled_up * 3 * 192**2


def test_unknown_parts_are_refused() -> None:
    class Other(ViTBranch):
        pass

    for branch_class, patch_embed, message in (
        (Other, None, "no branch like Other"),
        (ViTBranch, ConvStem(64), "with ConvStem"),
    ):
        branch = branch_class(
            img_size=64, embed_dim=64, depth=1, num_heads=1, patch_embed=patch_embed
        )
        with pytest.raises(ValueError, match=message):
            count_costs(single_network(branch), convention="released_script")
    network = single_network(build_vit_branch("vit_tiny", img_size=64, depth=1))
    with pytest.raises(ValueError, match="fused_mlp must be one of"):
        count_costs(network, convention="released_script", fused_mlp="maybe")


def test_a_layer_without_a_rule_is_refused() -> None:
    network = single_network(build_vit_branch("vit_tiny", img_size=64, depth=1))
    network.feature_maps.maps["res4"] = torch.nn.Softmax(dim=1)
    with pytest.raises(ValueError, match="no rule for Softmax"):
        count_costs(network, convention="released_script")


@pytest.mark.parametrize(
    "options",
    [
        {"directions": "alternating"},
        {"directions": "all_pairs"},
        {"merge": "light"},
        {"merge": "single_conv"},
        {"merge_dim": 96},
        {"merged_branches": [0]},
        {"num_interactions": 0},
    ],
    ids=str,
)
def test_what_was_not_released_is_refused(options: dict[str, Any]) -> None:
    # Three branches, as of two the kinds of directions are the same.
    branches = [
        build_vit_branch("vit_tiny", img_size=size, embed_dim=64, depth=2, num_heads=2)
        for size in (96, 64, 48)
    ]
    network = build_network(branches, **{"num_interactions": 2, "num_heads": 4, **options})
    with pytest.raises(ValueError, match='script cannot count.*use convention="actual"'):
        count_costs(network, convention="released_script")
    assert count_costs(network, convention="actual").flops > 0


def test_more_branches_than_were_released_are_refused() -> None:
    with without_numbers():
        network = build_network([build_vit_branch("vit_tiny", img_size=64) for _ in range(5)])
    with pytest.raises(ValueError, match="at most 4 branches, this one 5"):
        count_costs(network, convention="released_script")


def test_a_single_network_with_a_merge_is_refused() -> None:
    branch = build_vit_branch("vit_tiny", img_size=64, depth=1)
    network = build_network([branch], num_interactions=0, merge="conv", feature_norm="layer")
    with pytest.raises(ValueError, match="without a merge"):
        count_costs(network, convention="released_script")


@pytest.mark.parametrize(
    ("presets", "is_released"),
    [
        (["vit_small", "vit_small", "vit_base", "vit_large"], True),
        (["vit_base"] * 4, False),
        (["vit_tiny", "vit_tiny", "vit_small", "vit_base"], False),
    ],
)
def test_only_the_released_fourth_branch_is_counted_as_tiny(
    presets: list[str], is_released: bool
) -> None:
    with without_numbers():
        branches = [build_vit_branch(name, img_size=64) for name in presets]
        network = build_network(branches)
    report = count_costs(network, convention="released_script")
    fourth = network.branches[3]
    width = 192 if is_released else fourth.embed_dim
    assert report.part("branches.3").attention_flops == 2 * 12 * 16**2 * width
