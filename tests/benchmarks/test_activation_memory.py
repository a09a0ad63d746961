"""The table of memory comes from the program, and stands in the document as it was written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import activation_memory
from piip_d2.analysis.activation_memory import count_activations
from piip_d2.analysis.without_numbers import copy_without_numbers
from piip_d2.modeling import DINO
from tests.modeling.dino.tiny import build_small_model

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "activation_memory.json"


def build_without_pyramid(name: str) -> DINO:
    assert name == "small"
    return copy_without_numbers(build_small_model())


def test_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(activation_memory, "EXPERIMENTS", {"small": (64, 96)})
    monkeypatch.setattr(activation_memory, "build", build_without_pyramid)
    monkeypatch.setattr(activation_memory, "DTYPES", {"float32": activation_memory.torch.float32})
    switches = {"nothing": (), "branches": ("branches",), "encoder": ("encoder",)}
    monkeypatch.setattr(activation_memory, "SWITCHES", switches)
    file = tmp_path / "results" / "memory.json"
    activation_memory.main(["--output", str(file)])
    report = json.loads(file.read_text())
    assert {"torch", "piip_d2", "date", "compiled_operators", "batch_size"} <= set(report)
    counts = report["results"]["small"]["bytes"]["float32"]
    assert list(counts) == list(switches)
    totals = {column: sum(parts.values()) for column, parts in counts.items()}
    assert totals["encoder"] < totals["nothing"]
    # There are no branches here.
    assert totals["branches"] == totals["nothing"]
    assert activation_memory.as_markdown(report) in capsys.readouterr().out


def test_document_has_the_stored_numbers() -> None:
    report = json.loads(RESULTS.read_text())
    document = (ROOT / "docs" / "MEMORY.md").read_text(encoding="utf-8")
    assert set(report["results"]) == set(activation_memory.EXPERIMENTS)
    assert activation_memory.as_markdown(report) in document
    for values in report["measured"]["bytes"].values():
        for value in values.values():
            assert f" {value / 2**30:.2f} " in document


@pytest.mark.slow
def test_stored_numbers_can_be_counted_again() -> None:
    name = "dino/piip_tsb_1120_896_448_1x"
    stored = json.loads(RESULTS.read_text())["results"][name]
    model = activation_memory.build(name)
    activation_memory.set_act_checkpoint(model, dict.fromkeys(activation_memory.PARTS, False))
    counted = count_activations(model, stored["image_size"])
    assert sum(counted.values()) == pytest.approx(
        sum(stored["bytes"]["float32"]["nothing"].values()), rel=0.01
    )
