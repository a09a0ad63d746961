"""The published networks by name: which branches they have, and how they are joined."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from piip_d2.modeling.backbone.presets import BRANCH_PRESETS

HALF_RANGE = ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
"""Mean and standard deviation of most published models, for RGB from 0 to 255."""

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Those of ImageNet."""


@dataclass(frozen=True)
class ZooBranch:
    """A branch of a published network.

    Args:
        preset: A name in :data:`BRANCH_PRESETS`.
        options: Arguments of its class beside the preset's; the image size is not among them.
        last_blocks: The last block before each interaction; empty for an even split.
    """

    preset: str
    options: Mapping[str, Any] = field(default_factory=dict)
    last_blocks: tuple[int, ...] = ()

    def arguments(self, img_size: int) -> dict[str, Any]:
        """All arguments of the branch's class."""
        return {**BRANCH_PRESETS[self.preset].options, "img_size": img_size, **self.options}

    def with_options(self, **options: Any) -> ZooBranch:
        """The branch with further arguments of its class."""
        return replace(self, options={**self.options, **options})


@dataclass(frozen=True)
class Structure:
    """A published network without its weights.

    Args:
        branches: Largest resolution first.
        resolutions: Those of one published model, in the same order; any others will do.
        options: Arguments of :func:`build_network_parts` that are not its own defaults.
        size_divisibility: Images are padded to multiples of this many pixels.
        pixel_statistics: Mean and standard deviation of RGB from 0 to 255 in training.
    """

    branches: tuple[ZooBranch, ...]
    resolutions: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    size_divisibility: int = 224
    pixel_statistics: tuple[tuple[float, ...], tuple[float, ...]] = HALF_RANGE

    @property
    def network_options(self) -> dict[str, Any]:
        """Arguments of :func:`build_network_parts` beside the branches."""
        blocks = [list(branch.last_blocks) for branch in self.branches]
        return {**self.options, **({"interaction_block_indexes": blocks} if all(blocks) else {})}

    def check_resolutions(self, name: str, resolutions: Sequence[int] | None) -> tuple[int, ...]:
        """Chooses the wanted resolutions, or those of the published model.

        Args:
            name: What the error calls the network.
            resolutions: One per branch, largest first; None for the published ones.

        Returns:
            Image sides in pixels, largest first.

        Raises:
            ValueError: If there are not as many as branches, or they do not descend.
        """
        if resolutions is None:
            return self.resolutions
        wanted = tuple(resolutions) if isinstance(resolutions, Sequence) else (resolutions,)
        presets = ", ".join(branch.preset for branch in self.branches)
        if len(wanted) != len(self.branches) or list(wanted) != sorted(wanted, reverse=True):
            raise ValueError(
                f"{name} has {len(self.branches)} branches ({presets}), so resolutions must be as "
                f"many image sides in pixels, largest first, like {self.resolutions}; got {wanted}"
            )
        return wanted


def find_structure(name: str) -> Structure:
    """Looks up a published network.

    Args:
        name: A name in :data:`STRUCTURES`.

    Returns:
        The network's structure.

    Raises:
        ValueError: If there is no such network; the message has names that look alike.
    """
    if name in STRUCTURES:
        return STRUCTURES[name]
    # Names of configurations, or with other strokes and letters, lead to those of networks.
    bare = re.sub(r"(_\d+x?)+(_ms)?$", "", name.lower().replace("-", "_").rpartition("/")[2])
    near = get_close_matches(bare, STRUCTURES, n=4, cutoff=0.6)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    raise ValueError(
        f"no backbone named {name!r}; {hint}piip_d2.list_backbones() lists all {len(STRUCTURES)}"
    )


def _branch(
    preset: str, drop_path_rate: float, *, recompute: bool = False, **options: Any
) -> ZooBranch:
    # Whether activations are recomputed is the released code's choice.
    options |= {"use_act_checkpoint": True} if recompute else {}
    return ZooBranch(preset, {"drop_path_rate": drop_path_rate, **options})


DEIT = {
    "t": _branch("deit_tiny", 0.05),
    "s": _branch("deit3_small", 0.05),
    "b": _branch("deit3_base", 0.15),
    "l": _branch("deit3_large", 0.4),
}
"""The networks of DeiT by the initials of their sizes."""

_SMALL = DEIT["s"]
_MAE_HUGE = _branch("mae_huge", 0.4, recompute=True)
_INTERN_VIT = _branch("intern_vit_6b", 0.4, recompute=True)
_AUGREG_SBL = (
    _branch("augreg_small_384", 0.2, recompute=True),
    _branch("augreg_base_384", 0.3, recompute=True),
    _branch("augreg_large_384", 0.4, recompute=True),
)
_DINOV2_SBL = (
    _branch("dinov2_small", 0.2, recompute=True),
    _branch("dinov2_base", 0.3, recompute=True),
    _branch("dinov2_large", 0.4, recompute=True),
)
_MAE_SBL = (
    _SMALL,
    _branch("mae_base", 0.15, recompute=True),
    _branch("mae_large", 0.4, recompute=True),
)
_BEIT_SBL = (_SMALL, _branch("beitv2_base", 0.15), _branch("beitv2_large", 0.4))
_UNIPERCEIVER_SBL = (
    _SMALL,
    _branch("uniperceiver_base", 0.15),
    _branch("uniperceiver_large", 0.4),
)
# A ConvNeXt's down-sampling layers count as blocks. Interactions 0 and 1 end its first two stages,
# 10 its third and 11 its last.
_VIT_BLOCKS = tuple(range(12))
_SHALLOW_BLOCKS = (2, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 20)
_DEEP_BLOCKS = (2, 6, 10, 13, 16, 19, 22, 25, 28, 31, 34, 38)
_HYBRID = {
    "ct": replace(_branch("convnext_tiny", 0.3), last_blocks=_SHALLOW_BLOCKS),
    "cs": replace(_branch("convnext_small", 0.3), last_blocks=_DEEP_BLOCKS),
    "cb": replace(_branch("convnext_base", 0.4), last_blocks=_DEEP_BLOCKS),
    "vt": replace(DEIT["t"].with_options(window_size=14), last_blocks=_VIT_BLOCKS),
    "vs": replace(DEIT["s"].with_options(window_size=14), last_blocks=_VIT_BLOCKS),
    "vb": replace(DEIT["b"].with_options(window_size=14), last_blocks=_VIT_BLOCKS),
}
_HYBRIDS = (
    *("ct_cs_cb", "ct_cs_vb", "ct_vs_cb", "ct_vs_vb"),
    *("vt_cs_cb", "vt_cs_vb", "vt_vs_cb", "vt_vs_vb"),
)
# The authors' faster variants also approximate GELU by tanh.
_FAST = {"with_projection": False, "with_norm": False}
_FAST_ACT = {"act": "gelu_tanh"}


def _deit(initials: str, window_size: int, *resolutions: int, **options: Any) -> Structure:
    branches = [DEIT[initial].with_options(window_size=window_size) for initial in initials]
    return Structure(tuple(branches), resolutions, options)


def _sbl(branches: Sequence[ZooBranch], **options: Any) -> Structure:
    windowed = (branch.with_options(window_size=28) for branch in branches)
    return Structure(tuple(windowed), (1568, 1120, 672), options)


def _deit_384_sbl() -> Structure:
    branches = [
        _branch("deit3_small_384", 0.05, window_size=_every_third_global(12, 24)),
        _branch("deit3_base_384", 0.15, window_size=_every_third_global(12, 24)),
        _branch("deit3_large_384", 0.4, window_size=_every_third_global(24, 24)),
    ]
    return Structure(tuple(branches), (1792, 1120, 672), pixel_statistics=IMAGENET)


def _hybrid(names: str) -> Structure:
    branches = tuple(_HYBRID[name] for name in names.split("_"))
    options = {"merge": "single_conv", "out_interactions": [0, 1, 10]}
    return Structure(branches, (1024, 672, 448), options, 32, IMAGENET)


def _very_large(
    branches: Sequence[ZooBranch], *resolutions: int, fast: bool = False, **options: Any
) -> Structure:
    if fast:
        branches = [branch.with_options(**_FAST_ACT) for branch in branches]
        options |= _FAST
    return Structure(tuple(branches), resolutions, options, size_divisibility=64)


def _bst() -> Structure:
    """The wrong way round: the largest network sees the largest image."""
    bst = _deit("bst", 14, 896, 672, 448, merge_dim=768)
    first = bst.branches[0].with_options(window_size=_every_third_global(12, 14))
    return replace(bst, branches=(first, *bst.branches[1:]))


def _alone(branch: ZooBranch, **options: Any) -> Structure:
    options = {"num_interactions": 0, "merge": "none", "feature_norm": "layer", **options}
    return Structure((branch,), (1024,), options, size_divisibility=64)


def _every_third_global(depth: int, window_size: int) -> list[int | None]:
    return [window_size, window_size, None] * (depth // 3)


STRUCTURES: dict[str, Structure] = {
    "piip_tsb": _deit("tsb", 14, 1120, 896, 448),
    "piip_sbl": _deit("sbl", 28, 1120, 672, 448),
    "piip_tsbl": _deit("tsbl", 28, 1344, 896, 672, 448),
    # Against its own configurations, the released code builds the fourth branch like the third.
    "piip_tsbl_as_released": _deit("ssbl", 28, 1344, 896, 672, 448),
    "piip_sbl_384": _deit_384_sbl(),
    "piip_sbl_augreg": _sbl(_AUGREG_SBL),
    "piip_sbl_augreg_fast": _sbl([x.with_options(**_FAST_ACT) for x in _AUGREG_SBL], **_FAST),
    "piip_sbl_beit": _sbl(_BEIT_SBL),
    "piip_sbl_dinov2": _sbl(_DINOV2_SBL),
    "piip_sbl_mae": _sbl(_MAE_SBL),
    "piip_sbl_uniperceiver": _sbl(_UNIPERCEIVER_SBL),
    **{f"piip_{names}": _hybrid(names) for names in _HYBRIDS},
    "piip_h6b": _very_large([_MAE_HUGE, _INTERN_VIT], 1024, 512),
    "piip_h6b_fast": _very_large([_MAE_HUGE, _INTERN_VIT], 1024, 512, fast=True),
    "piip_lh6b": _very_large(
        [_branch("deit3_large_384", 0.4), _MAE_HUGE, _INTERN_VIT],
        *(1536, 1024, 512),
        fast=True,
        num_interactions=4,
    ),
    "piip_bbb": _deit("bbb", 14, 896, 448, 224),
    "piip_lll": _deit("lll", 14, 896, 448, 224),
    "piip_bst": _bst(),
    "vit_b": _alone(DEIT["b"].with_options(window_size=_every_third_global(12, 14))),
    "vit_l": _alone(DEIT["l"].with_options(window_size=_every_third_global(24, 14))),
    "intern_vit_6b": _alone(_INTERN_VIT),
    # Each stage gives a map.
    "convnext_b": _alone(
        ZooBranch("convnext_base", last_blocks=(2, 6, 34)), out_interactions=[0, 1, 2]
    ),
}
"""Every network of the published tables, by the names of its configurations."""
