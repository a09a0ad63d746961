"""Small networks in the released classes' form, of kinds that the released ones combine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Ranges = list[list[int]]

TWO_STEPS: Ranges = [[0, 0], [1, 1]]
FOUR_STEPS: Ranges = [[0, 0], [1, 1], [2, 2], [3, 3]]
BY_STAGE: Ranges = [[0, 0], [1, 2], [3, 5], [6, 7]]
ACROSS_STAGES: Ranges = [[0, 1], [2, 2], [3, 4], [5, 7]]
RATIOS = [4, 8, 8, 16, 16, 16, 32, 32]
CONVNEXT_SIZES: dict[str, Any] = {
    "convnext-wide": {"hidden_sizes": [32, 32, 64, 96], "depths": [1, 1, 2, 1]},
    "convnext-middle": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
    "convnext-slim": {"hidden_sizes": [16, 16, 32, 64], "depths": [1, 1, 2, 1]},
}


@dataclass(frozen=True)
class OracleCase:
    """A network and the shape of its images (B, 3, h, w)."""

    config: dict[str, Any]
    shape: tuple[int, ...] = (1, 3, 112, 136)
    four_branch: str = "corrected"


def vit(width: int, size: int, path: str = "deit", **changes: Any) -> dict[str, Any]:
    """A vision transformer's branch, of the family that the path says."""
    branch: dict[str, Any] = {"embed_dim": width, "depth": 2, "num_heads": 2, "real_size": size}
    branch |= {"patch_size": 16, "pretrain_img_size": 64, "interaction_indexes": TWO_STEPS}
    if path == "deit":
        branch["use_flash_attn"] = True
    return {**branch, "pretrained": f"./pretrained/{path}.pth", **changes}


def convnext(name: str, size: int, ranges: Ranges = BY_STAGE) -> dict[str, Any]:
    """A ConvNeXt's branch of one of the sizes above."""
    branch: dict[str, Any] = {"real_size": size, "pretrained": f"convnext-{name}"}
    return {**branch, "interaction_indexes": ranges, "downsample_ratios": RATIOS}


def pyramid(*branches: dict[str, Any], **options: Any) -> dict[str, Any]:
    """A network of several branches, smallest image first."""
    kind = {2: "PIIPTwoBranch", 3: "PIIPThreeBranch", 4: "PIIPFourBranch"}[len(branches)]
    numbered = {f"branch{number}": branch for number, branch in enumerate(branches, start=1)}
    common = {"with_cffn": True, "interact_attn_type": "deform", "deform_num_heads": 4}
    return {"type": kind, **common, "deform_ratio": 0.5, **numbered, **options}


def by_stage(*branches: dict[str, Any]) -> dict[str, Any]:
    """Three branches whose maps are merged after each of four interactions."""
    return pyramid(*branches, with_simple_fpn=False, out_interaction_indexes=[0, 1, 2])


def windows(*sizes: int) -> dict[str, Any]:
    """Arguments for one window size per block, -1 for a block without."""
    return {"window_attn": [size > 0 for size in sizes], "window_size": list(sizes)}


def _families() -> OracleCase:
    beit = vit(64, 64, "beit", init_values=0.1, **windows(3, 2))
    perceiver = vit(32, 96, "uni-perceiver", window_attn=[False, True], window_size=[14, 4])
    return OracleCase(pyramid(beit, perceiver, vit(16, 128, **windows(3, -1))), (2, 3, 112, 136))


def _intern_with_regular_attention() -> OracleCase:
    layer = {"norm_layer_type": "LayerNorm", "qkv_bias": True}
    plain = vit(32, 96, "mae", **layer, qk_normalization=False, mlp_type="fused_mlp")
    windowed = vit(16, 128, "augreg", **layer, **windows(3, 4))
    return OracleCase(pyramid(vit(64, 64, "6b"), plain, windowed, interact_attn_type="normal"))


def _by_stage(kinds: str) -> OracleCase:
    """Branches that are each a ConvNeXt ("c") or a vision transformer ("v")."""
    names = ("wide", "middle", "slim")
    # The last branch decides on the maps' strides, the others need not keep to its stages.
    ranges = (ACROSS_STAGES, ACROSS_STAGES, BY_STAGE)
    branches = []
    for number, kind in enumerate(kinds):
        size = 64 + 32 * number
        if kind == "c":
            branches.append(convnext(names[number], size, ranges[number]))
        else:
            width = (64, 32, 16)[number]
            branches.append(vit(width, size, depth=4, interaction_indexes=FOUR_STEPS))
    return OracleCase(by_stage(*branches))


def _four(mode: str) -> OracleCase:
    third = vit(32, 96, depth=3, interaction_indexes=[[0, 1], [2, 2]], **windows(3, 4, -1))
    fourth = vit(16, 128, num_heads=4, depth=3, interaction_indexes=[[0, 1], [2, 2]])
    config = pyramid(vit(96, 48), vit(64, 64), third, fourth, n_points=3, cffn_ratio=0.5)
    return OracleCase(config, four_branch=mode)


def _uneven_ranges() -> OracleCase:
    ranges: list[Ranges] = [
        [[0, 0], [1, 3], [4, 4]],
        [[0, 2], [3, 3], [4, 5]],
        [[0, 0], [1, 1], [2, 2]],
    ]
    branches = [
        vit(width, size, depth=steps[-1][-1] + 1, interaction_indexes=steps)
        for width, size, steps in zip((64, 48, 32), (64, 96, 96), ranges, strict=True)
    ]
    return OracleCase(pyramid(*branches))


def _patches_and_grids() -> OracleCase:
    """Sizes whose ratios and cells leave pixels over, tables of three grids."""
    fine = vit(64, 57, patch_size=8, pretrain_img_size=100)
    middle = vit(32, 58, "x", patch_size=14, pretrain_img_size=70, qkv_bias=True, mlp_ratio=3.5)
    return OracleCase(pyramid(fine, middle, vit(16, 100, pretrain_img_size=160)), (1, 3, 121, 150))


def _windows_that_do_not_divide() -> OracleCase:
    """Zeros beside the features, or beside the queries, keys and values; for DINO."""
    after = vit(64, 64, use_flash_attn=False, **windows(3, 2))
    before = vit(32, 96, **windows(4, 5))
    config = pyramid(after, before, vit(16, 128, "x", **windows(3, 5)), is_dino=True)
    return OracleCase(config, (2, 3, 130, 150))


def _defaults(**options: Any) -> OracleCase:
    """What a configuration may leave out, left out."""
    sizes = {"depth": 2, "interaction_indexes": TWO_STEPS}
    config: dict[str, Any] = {"type": "PIIPThreeBranch", "with_cffn": True, **options}
    for number, path in enumerate(("6b", "deit", "deit"), start=1):
        width = {"embed_dim": 96 if number == 1 else 48, "num_heads": 3}
        size = {"real_size": 32 + 32 * number, "pretrained": path}
        config[f"branch{number}"] = {**sizes, **width, **size}
    config["branch3"]["window_attn"] = True
    return OracleCase(config, (1, 3, 240, 256))


def _alone(kind: str, **changes: Any) -> OracleCase:
    sizes = {"embed_dim": 48, "depth": 3, "num_heads": 4, "patch_size": 16, "with_fpn": True}
    return OracleCase({"type": kind, **sizes, "pretrain_img_size": 96, **changes}, (2, 3, 122, 147))


def oracle_cases() -> dict[str, OracleCase]:
    """All networks by name."""
    two = (vit(96, 64, "6b", mlp_type="fused_mlp"), vit(48, 128, Mlp_block="fused_mlp"))
    bare = {"interaction_proj": False, "norm_layer": "none", "is_dino": True}
    scalar: dict[str, Any] = {"window_attn": True, "window_size": 3}
    beit = vit(64, 64, "beit", init_values=0.1, qkv_bias=False, **scalar)
    scalars = (beit, vit(32, 96, "x", **scalar), vit(16, 128, **scalar))
    mixed = (convnext("wide", 64, [[0, 2], [3, 7]]), vit(32, 96), vit(16, 128))
    return {
        "beit, perceiver and deit": _families(),
        "intern with regular attention": _intern_with_regular_attention(),
        "convnext first": _by_stage("cvv"),
        "convnext second": _by_stage("vcv"),
        "convnext third": _by_stage("vvc"),
        "convnext everywhere": _by_stage("ccc"),
        "convnext, one map": OracleCase(pyramid(*mixed)),
        "two for dino without projections and norms": OracleCase(pyramid(*two, **bare)),
        "four, corrected": _four("corrected"),
        "four, as released": _four("as_released"),
        "uneven ranges": _uneven_ranges(),
        "patches and grids": _patches_and_grids(),
        "windows that do not divide": _windows_that_do_not_divide(),
        "scalar windows": OracleCase(pyramid(*scalars)),
        "defaults": _defaults(),
        "defaults, deformable": _defaults(interact_attn_type="deform"),
        "vit alone": _alone("vit_models", use_flash_attn=True, **windows(3, -1, 5)),
        "intern alone": _alone("InternViT6B"),
        "convnext alone": OracleCase({"type": "ConvNextHFWrapper", "pretrained": "convnext-wide"}),
    }
