"""The benchmark runs from beginning to end; how fast is not a test's business."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import backbone_speed
from piip_d2.modeling.backbone import ViTBranch, build_network


def _small_networks(resolution: int) -> dict[str, nn.Module]:
    """Networks of the same kinds, small enough for a test."""

    def branch(size: int, channels: int) -> ViTBranch:
        return ViTBranch(img_size=size, embed_dim=channels, depth=2, num_heads=2, window_size=4)

    small = branch(resolution, 16)
    plain = build_network([branch(resolution, 32)], num_interactions=0)
    pyramid = build_network([small, branch(resolution // 2, 32)], num_interactions=2, num_heads=2)
    return {"vit_b": plain, "piip_tsb": pyramid}


def test_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone_speed, "build_networks", _small_networks)
    file = tmp_path / "results" / "speed.json"
    backbone_speed.main(["--resolution", "128", "--repeats", "3", "--output", str(file)])
    report = json.loads(file.read_text())
    assert {"device", "torch", "date", "threads"} <= set(report)
    assert (report["resolution"], report["repeats"]) == (128, 3)
    results = report["results"]
    assert list(results) == ["vit_b", "piip_tsb"]
    assert results["vit_b"]["ratio_to_baseline"] == 1.0
    for result in results.values():
        assert len(result["seconds"]) == 3
        assert min(result["seconds"]) <= result["median_s"] <= max(result["seconds"])


def test_what_is_compared() -> None:
    with torch.device("meta"):
        networks = backbone_speed.build_networks(1120)
    sizes = {
        name: [branch.img_size for branch in network.branches] for name, network in networks.items()
    }
    assert sizes == {"vit_b": [1120], "piip_tsb": [448, 896, 1120]}
    assert all(len(net.feature_maps.strides) == 4 for net in networks.values())
