"""Names of backbones without branches, as other programs and Detectron2 have them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from piip_d2.checkpoint.renaming import Pair, Rule, Value, rename_known, rules_of

# torchvision's ResNet, which mmdetection and DINO's authors have too; the latter in a wrapper.
_RESNET: tuple[Pair, ...] = (
    ("conv1", "stem.conv1"),
    ("bn1", "stem.conv1.norm"),
    *(
        pair
        for stage in range(1, 5)
        for pair in (
            *((f"layer{stage}.*.conv{n}", f"res{stage + 1}.*.conv{n}") for n in (1, 2, 3)),
            *((f"layer{stage}.*.bn{n}", f"res{stage + 1}.*.conv{n}.norm") for n in (1, 2, 3)),
            (f"layer{stage}.*.downsample.0", f"res{stage + 1}.*.shortcut"),
            (f"layer{stage}.*.downsample.1", f"res{stage + 1}.*.shortcut.norm"),
        )
    ),
)
_WRAPPER = "body."
_IS_RESNET = re.compile(r"(body\.)?layer1\.0\.conv1\.weight$")


def is_torchvision_resnet(names: Mapping[str, object]) -> bool:
    """Tells whether names without their prefix are those of torchvision's ResNet."""
    return any(_IS_RESNET.match(name) for name in names)


def rename_plain_backbone(weights: Mapping[str, Value]) -> dict[str, Value]:
    """Gives the weights of a backbone without branches Detectron2's names, where they are known.

    Args:
        weights: Anything by the names of another program, without their prefix.

    Returns:
        All of it: a ResNet of torchvision under Detectron2's names, the rest as it was, since
        detrex and DINO's authors have Detectron2's names for Swin.
    """
    if not is_torchvision_resnet(weights):
        return dict(weights)
    plain = {name.removeprefix(_WRAPPER): value for name, value in weights.items()}
    renamed, unknown = rename_known(plain, _rules())
    return {**renamed, **{name: plain[name] for name in unknown}}


def _rules() -> list[Rule]:
    return rules_of(_RESNET)
