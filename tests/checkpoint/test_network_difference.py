"""The first thing in which foreign weights and a network differ is said with both numbers."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from piip_d2.checkpoint import build_from_official
from piip_d2.checkpoint.network_difference import difference
from tests.golden import cases


def change(weights: dict[str, Tensor], branch: int, **replaced: str) -> dict[str, Tensor]:
    """Weights in which a part of one branch's names is another."""
    changed = {}
    for key, tensor in weights.items():
        if key.startswith(f"branch{branch}."):
            for before, after in replaced.items():
                key = key.replace(before, after)
        changed[key] = tensor
    return changed


def test_differences_are_named() -> None:
    case = cases.vector_cases()["tsbl_4branch_corrected"]
    released_case = cases.vector_cases()["tsbl_4branch_as_released_code"]
    released = cases.vector_weights(released_case["keys"])
    network = build_from_official(case["config"])

    def found(weights: dict[str, Tensor]) -> str | None:
        return difference({f"backbone.{key}": x for key, x in weights.items()}, network)

    weights = cases.vector_weights(case["keys"])
    assert found(weights) is None
    assert "as released, whose fourth branch repeats the third (64" in str(found(released))
    three = {key: x for key, x in weights.items() if not key.startswith("branch4.")}
    assert "network with 3 branches, but the config has 4" in str(found(three))
    other = change(weights, 2, blocks="layers", patch_embed="visual_embed.patch_embed")
    assert "branch2 is a Uni-Perceiver in these weights, but the config's at 672" in str(
        found(other)
    )
    wide = weights | {"branch1.patch_embed.proj.weight": torch.zeros(96, 3, 16, 16)}
    assert "branch1 has 96 channels in these weights" in str(found(wide))
    as_released = build_from_official(case["config"], four_branch="as_released")
    sentence = difference({f"backbone.{key}": x for key, x in weights.items()}, as_released)
    assert "have a true fourth branch (32 channels)" in str(sentence)


def found_in(case: dict[str, Any], weights: dict[str, Tensor]) -> str | None:
    network = build_from_official(case["config"])
    return difference({f"backbone.{key}": x for key, x in weights.items()}, network)


@pytest.mark.parametrize(
    ("name", "dropped", "message"),
    [
        ("tsb_noflash", r"interactions\.1\.", "with 1 interactions, but the config has 2"),
        ("tsb_noflash", r"branch2\.blocks\.1\.", "branch2 has 1 blocks .* at 896 pixels has 2"),
        (
            "convnext_cnn_branch3",
            r"branch1\.convnext_model\.encoder\.stages\.2\.layers\.1\.",
            r"branch1 has 1 \+ 1 \+ 1 \+ 1 blocks .* has 1 \+ 1 \+ 2 \+ 1: take the config",
        ),
        ("tsb_noflash", r".*sampling_offsets", 'are not made with attention="deformable"'),
        ("tsb_noflash", r".*_proj\.", "are not made with with_projection=True, .* config's are"),
        ("tsb_noflash", r".*query_norm", "are not made with with_norm=True"),
        ("tsb_noflash", r".*injector\.ffn\.", "are not made with with_ffn=True"),
        ("tsb_noflash", "nothing", None),
    ],
)
def test_numbers_of_both_are_said(name: str, dropped: str, message: str | None) -> None:
    case = cases.vector_cases()[name]
    weights = cases.vector_weights(case["keys"])
    kept = {key: x for key, x in weights.items() if not re.match(dropped, key)}
    sentence = found_in(case, kept)
    assert (sentence is None) == (message is None)
    assert re.search(message or "", str(sentence))


def test_parts_that_the_config_lacks() -> None:
    case = cases.vector_cases()["tsb_noflash"]
    without = {**case["config"], "interaction_proj": False}
    sentence = found_in({"config": without}, cases.vector_weights(case["keys"]))
    assert "are made with with_projection=True, but the config's are not" in str(sentence)
