from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import data_loading

MODEL = "piip_tsb_1120_896_448"


def test_every_recipe_and_variant_gets_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data_loading, "FILE_SIZES", {"160x120": (160, 120)})
    output = tmp_path / "rows.json"
    words = ["--tiny", "--threads", "1", "--device", "cpu", "--workers", "0", "--model", MODEL]
    data_loading.main([*words, "--output", str(output)])
    rows = json.loads(output.read_text())["rows"]
    found = {(row["name"], row["variant"]): row for row in rows}
    for recipe in data_loading.RECIPES:
        for variant in ("pillow", "torch"):
            assert found[f"{recipe}, 160x120", variant]["median_s"] > 0
    row = found["one scale, 160x120", "pillow"]
    baseline = found["one scale, 160x120", "detectron2"]
    assert row["ratio"] == pytest.approx(row["median_s"] / baseline["median_s"], rel=1e-3)
    assert ("one scale, 160x120", "0 workers") in found
    assert found["one scale, 160x120", "0 workers"]["samples"] == 3
    assert found[MODEL, "training step"]["mode"] == "training"
    printed = capsys.readouterr().out
    assert "pillow (one worker): " in printed and "images/s" in printed
    data_loading.main([*words, "--output", str(output), "--resume"])
    assert json.loads(output.read_text())["rows"] == rows
