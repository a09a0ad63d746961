"""Parts are chosen by name, each with its own modules."""

from __future__ import annotations

import pytest

from piip_d2.analysis.memory.recomputation import set_act_checkpoint
from tests.modeling.dino.tiny import build_small_pyramid


def test_only_the_parts_that_are_named_change() -> None:
    model = build_small_pyramid()
    network, transformer = model.backbone.bottom_up, model.transformer
    modules = {
        "branches": list(network.branches),
        "interactions": [network],
        "encoder": [transformer.encoder],
        "decoder": [transformer.decoder],
    }
    for part in modules:
        for is_on in (True, False):
            set_act_checkpoint(model, {part: is_on})
            for other, switched in modules.items():
                states = {module.use_act_checkpoint for module in switched}
                assert states == {is_on and other == part}


def test_parts_without_a_switch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"parts to recompute must be of .*got \['neck'\]"):
        set_act_checkpoint(build_small_pyramid(), {"neck": True})
