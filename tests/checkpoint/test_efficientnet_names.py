"""Names of EfficientNet-Lite0."""

from __future__ import annotations

import pytest
import timm
import torch

from piip_d2.checkpoint.efficientnet_names import convert_efficientnet_lite0_state_dict

# How many layers a block has, in the order of the file: each convolution with its norm.
_LAYERS = (("depthwise_conv", "bn1"), ("project_conv", "bn2"))
_WIDENING = ("expand_conv", "bn0")


def _official_names() -> list[str]:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = ["_conv_stem.weight", *(f"_bn0.{part}" for part in norm)]
    for block in range(16):
        for conv, batch_norm in _LAYERS if block == 0 else (_WIDENING, *_LAYERS):
            names.append(f"_blocks.{block}._{conv}.weight")
            names += [f"_blocks.{block}._{batch_norm}.{part}" for part in norm]
    names += ["_conv_head.weight", *(f"_bn1.{part}" for part in norm)]
    return [*names, "_fc.weight", "_fc.bias"]


def test_order_and_names_are_those_of_timm() -> None:
    # Both sides list layers in the order of their use.
    official = {name: torch.zeros(()) for name in _official_names()}
    with torch.device("meta"):
        expected = list(timm.create_model("tf_efficientnet_lite0").state_dict())
    assert list(convert_efficientnet_lite0_state_dict(official)) == expected


def test_unknown_name() -> None:
    with pytest.raises(KeyError, match="1 keys are unknown, among them"):
        convert_efficientnet_lite0_state_dict({"layer1.weight": torch.zeros(1)})
