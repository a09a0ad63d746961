"""The published networks by name are those of the configurations."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from omegaconf import OmegaConf

from piip_d2.modeling.backbone.build import build_network_parts
from piip_d2.modeling.backbone.interaction import build_interactions
from piip_d2.modeling.backbone.presets import BRANCH_PRESETS
from piip_d2.modeling.backbone.zoo import STRUCTURES, find_structure
from tests.configs.loading import NAMES, load_once

# What an experiment chooses, and not the structure.
CHOSEN = {"branches", "out_features", "use_act_checkpoint", "drop_path_rate", "square_size"}
ABLATIONS = ("bbb_896_448_224", "lll_896_448_224", "bst_896_672_448")


def _structure_name(config: str) -> str:
    stem = config.split("/")[1]
    if stem == "piip_sbl_1792_1120_672_3x":
        return "piip_sbl_384"
    return re.sub(r"_\d+(?=_|$)|_\dx(_ms)?(_5scale)?", "", stem)


CONFIGS = [
    name for name in NAMES if name.startswith(("mask_rcnn/", "dino/")) or name.endswith(ABLATIONS)
]


def _defaults() -> dict[str, Any]:
    parameters = [
        *inspect.signature(build_network_parts).parameters.values(),
        *inspect.signature(build_interactions).parameters.values(),
    ]
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(OmegaConf.create({"value": value}))["value"]


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_the_configuration(name: str) -> None:
    cfg = load_once(name)
    node = OmegaConf.to_container(cfg.model.backbone.bottom_up)
    structure = find_structure(_structure_name(name))
    given = node["branches"]
    assert len(given) == len(structure.branches)
    for one, branch in zip(given, structure.branches, strict=True):
        arguments = _plain(branch.arguments(one["img_size"]))
        kind = BRANCH_PRESETS[branch.preset].branch_type
        recomputed = {"use_act_checkpoint": False}
        assert recomputed | one == {**recomputed, "_target_": kind, **arguments}

    node["drop_path_rate"] = node.pop("interaction_drop_path_rate")
    wanted = {**_defaults(), **structure.network_options}
    # With blocks given, the number of interactions follows from them.
    skipped = CHOSEN | ({"num_interactions"} if node["interaction_block_indexes"] else set())
    for key in node.keys() & wanted.keys() - skipped:
        assert node[key] == _plain(wanted[key]), key
    assert node["size_divisibility"] == structure.size_divisibility
    mean, std = structure.pixel_statistics
    assert (list(cfg.model.pixel_mean), list(cfg.model.pixel_std)) == (list(mean), list(std))


def test_every_structure_has_a_configuration() -> None:
    assert {_structure_name(name) for name in CONFIGS} == set(STRUCTURES)
