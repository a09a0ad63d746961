"""PIIP networks by name for any framework; needs PyTorch and timm alone."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

from timm.models import FeatureInfo
from torch import Tensor, nn

from piip_d2.checkpoint.backbone_names import is_never_used, rules_to_ours
from piip_d2.checkpoint.backbone_weights import PREFIX, adapt_tensors
from piip_d2.checkpoint.branch_weights import load_network_weights
from piip_d2.checkpoint.network_difference import difference
from piip_d2.checkpoint.renaming import rename_known
from piip_d2.checkpoint.weight_files import read_weights
from piip_d2.modeling.backbone.build import build_network_parts
from piip_d2.modeling.backbone.interaction import build_interactions
from piip_d2.modeling.backbone.network import PIIPNetwork
from piip_d2.modeling.backbone.presets import build_branch
from piip_d2.modeling.backbone.zoo import STRUCTURES, find_structure

Module = TypeVar("Module", bound=nn.Module)

_logger = logging.getLogger(__name__)

_OURS = "branches."
_IN_DETECTOR = "backbone.bottom_up."
_MAPS = "feature_maps."
_UNUSED_MAP = "fpn1."
_EXAMPLES = 4


class NamedBackbone(PIIPNetwork):
    """A published network with what users of timm look for in a backbone.

    Args:
        size_divisibility: The published models pad images to multiples of this many pixels; other
            sizes work, and are rounded down branch by branch.
        pixel_mean: Mean of RGB from 0 to 255 that images are normalised by.
        pixel_std: Standard deviation likewise.
        **parts: See :class:`PIIPNetwork`.

    Attributes:
        feature_info: timm's description of the outputs, with ``channels()``, ``reduction()`` and
            ``module_name()``, finest first.
        input_format: Order of the channels.
    """

    input_format = "RGB"

    def __init__(
        self,
        *,
        size_divisibility: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        self.size_divisibility = size_divisibility
        self.pixel_mean = tuple(pixel_mean)
        self.pixel_std = tuple(pixel_std)
        outputs = [
            {"num_chs": self.channels[name], "reduction": stride, "module": f"{_MAPS}maps.{name}"}
            for name, stride in self.strides.items()
        ]
        self.feature_info = FeatureInfo(outputs, tuple(range(len(outputs))))

    @property
    def channels(self) -> dict[str, int]:
        """Channels of the outputs by name, finest first."""
        return dict(self.feature_maps.channels)

    @property
    def strides(self) -> dict[str, int]:
        """Image pixels per cell of the outputs by name, finest first."""
        return dict(self.feature_maps.strides)


def list_backbones() -> list[str]:
    """Names that :func:`build_backbone` knows."""
    return list(STRUCTURES)


def build_backbone(
    name: str,
    resolutions: Sequence[int] | None = None,
    *,
    checkpoint: str | Mapping[str, Tensor] = "",
    branch_weights: Sequence[str] = (),
    out_features: Sequence[str] | None = None,
    use_act_checkpoint: bool | str | None = None,
    **options: Any,
) -> NamedBackbone:
    """Builds a published network: images in, a dict of feature maps out.

    It takes images (B, 3, h, w) that are already normalised, see :class:`NamedBackbone`, and sees
    them at ``resolutions`` only in proportion: its first branch sees an image as it is.

    Args:
        name: A name in :func:`list_backbones`, such as ``"piip_tsb"``.
        resolutions: Image sides in pixels, one per branch, largest first; None for published ones.
        checkpoint: Weights of the whole network, see :func:`load_backbone_weights`.
        branch_weights: Weights of single networks, one per branch, largest resolution first: files
            or ``timm://`` and a name; "" leaves a branch as it is.
        out_features: Names of the wanted maps, finest first, from res2, res3, res4 and res5
            (strides 4, 8, 16 and 32); None for all.
        use_act_checkpoint: What is recomputed in the backward pass, see
            :class:`PIIPNetwork`; None for the released code's choice.
        **options: Further arguments of :func:`build_network_parts`, before the published ones.

    Returns:
        The network, with random weights where none are given.

    Raises:
        ValueError: If there is no such network, numbers do not fit together, or weights cannot be
            read or are of another network.
        TypeError: If there is no such option.

    Example:
        >>> network = build_backbone("piip_tsb", (1120, 896, 448))
        >>> network.feature_info.channels()
        [768, 768, 768, 768]
    """
    _check_options(options)
    structure = find_structure(name)
    sides = structure.check_resolutions(name, resolutions)
    recompute = {} if use_act_checkpoint is None else {"use_act_checkpoint": use_act_checkpoint}
    branches = [
        build_branch(branch.preset, img_size=side, **{**branch.options, **recompute})
        for branch, side in zip(structure.branches, sides, strict=True)
    ]
    given = {**recompute, **({"out_features": out_features} if out_features else {}), **options}
    network = NamedBackbone(
        **build_network_parts(branches, **{**structure.network_options, **given}),
        size_divisibility=structure.size_divisibility,
        pixel_mean=structure.pixel_statistics[0],
        pixel_std=structure.pixel_statistics[1],
    )
    if branch_weights:
        load_network_weights(network, branch_weights)
    if checkpoint:
        load_backbone_weights(network, checkpoint)
    return network


def load_backbone_weights(network: PIIPNetwork, source: str | Mapping[str, Tensor]) -> None:
    """Loads a whole network from a checkpoint of its own, of a detector around it, or official.

    Args:
        network: The network; unchanged unless all of its weights are there.
        source: Tensors by name, or where to read them, see
            :func:`piip_d2.checkpoint.weight_files.read_weights`: this package's or the authors'
            names, a backbone alone or below a detector, whose other parts are left out. Of a run
            with a moving average, these are the weights beside it.

    Raises:
        ValueError: If they cannot be read, or are not those of this network.
    """
    place = source if isinstance(source, str) else "the given weights"
    weights = read_weights(source) if isinstance(source, str) else dict(source)
    found = _in_our_names(weights, network, place)
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in found]
    # Maps that were not asked for are no mistake.
    unknown = [name for name in found if name not in wanted and not name.startswith(_MAPS)]
    other = [name for name in found if name in wanted and found[name].shape != wanted[name].shape]
    if missing or unknown or other:
        raise ValueError(
            f"{place} is not of this network: {_count(missing, 'missing')}, "
            f"{_count(unknown, 'unknown')}, {_count(other, 'of another shape')}; build the "
            f"network that it was trained as (its branches are {_describe(network)})"
        )
    network.load_state_dict({name: found[name] for name in wanted})
    _logger.info("Loaded %d weights of the backbone from %s", len(wanted), place)


def freeze(module: Module) -> Module:
    """Excludes a module from training, for configurations: ``L(freeze)(module=branch)``.

    Args:
        module: A branch, or anything else; changed in place.

    Returns:
        The same module, without trainable parameters.
    """
    return module.requires_grad_(False)


def _check_options(options: Mapping[str, Any]) -> None:
    known = {
        name
        for function in (build_network_parts, build_interactions)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    own = inspect.signature(build_backbone).parameters
    known |= {
        name for name, parameter in own.items() if parameter.kind is not parameter.VAR_KEYWORD
    }
    unknown = [name for name in options if name not in known]
    if unknown:
        near = [match for name in unknown for match in get_close_matches(name, known, n=1)]
        hint = f"did you mean {' or '.join(near)}? All" if near else "all"
        raise TypeError(
            f"build_backbone has no option {' or '.join(map(repr, unknown))}; {hint} options are "
            f"{', '.join(sorted(known - {'name'}))}"
        )


def _in_our_names(
    weights: Mapping[str, Tensor], network: PIIPNetwork, place: str
) -> dict[str, Tensor]:
    for prefix in (_IN_DETECTOR, ""):
        if any(name.startswith(prefix + _OURS) for name in weights):
            return {
                name.removeprefix(prefix): tensor
                for name, tensor in weights.items()
                if name.startswith(prefix)
            }
    is_detector = any(name.startswith(PREFIX) for name in weights)
    theirs = {
        name.removeprefix(PREFIX): tensor
        for name, tensor in weights.items()
        if not is_detector or name.startswith(PREFIX)
    }
    sentence = difference({PREFIX + name: x for name, x in theirs.items()}, network)
    if sentence:
        raise ValueError(f"{place} cannot be loaded: {sentence}")
    unused = () if "res2" in network.feature_maps.strides else (_UNUSED_MAP,)
    used = {
        name: x
        for name, x in theirs.items()
        if not (is_never_used(name) or name.startswith(unused))
    }
    renamed, unknown = rename_known(used, rules_to_ours())
    if unknown:
        raise ValueError(
            f"{place} has weights under names that are neither this package's nor the authors', "
            f"{_count(unknown, 'such')}; weights of single networks go into branch_weights"
        )
    return adapt_tensors(renamed)


def _count(names: Sequence[str], what: str) -> str:
    examples = ", ".join(names[:_EXAMPLES]) + (", …" if len(names) > _EXAMPLES else "")
    return f"{len(names)} {what}" + (f" ({examples})" if names else "")


def _describe(network: PIIPNetwork) -> str:
    kinds = [
        f"{type(branch).__name__} of {branch.num_blocks} blocks at {branch.img_size} pixels"
        for branch in reversed(network.branches)
    ]
    return ", ".join(kinds)
