"""The document says what the results say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import performance
from benchmarks.networks import BASELINE
from benchmarks.performance import DOCUMENT, RESULTS, START_OF_TABLES, as_markdown, read_results
from benchmarks.rows import INFERENCE, TRAINING, Results
from benchmarks.targets import TARGETS, growth_exponent
from tests.benchmarks.example_rows import RUN, make_ceiling, make_row

TSB = "piip_tsb_1120_896_448"
GIB = 2**30


def test_document_is_up_to_date() -> None:
    _, mark, tables = DOCUMENT.read_text(encoding="utf-8").partition(START_OF_TABLES)
    assert mark
    assert tables == f"\n{as_markdown(read_results(RESULTS))}", (
        "run python -m benchmarks.performance"
    )


def test_document_names_every_command() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for module in re.findall(r"python -m benchmarks\.(\w+)", text):
        assert (DOCUMENT.parents[1] / "benchmarks" / f"{module}.py").is_file() or module == "gpu"


def _results(tmp_path: Path) -> dict[str, Results]:
    cpu, gpu = Results(tmp_path / "cpu.json"), Results(tmp_path / "gpu.json")
    cpu.add(make_ceiling(614e9 / 2.0), RUN)
    memory = {"peak_memory_bytes": 2 * GIB, "idle_memory_bytes": GIB // 2}
    common = {"flop": 754e9, "ceiling": "arithmetic", **memory}
    cpu.add(make_row(name=TSB, median_s=2.5, baseline=(BASELINE, "eager"), **common), RUN)
    cpu.add(make_row(name=BASELINE, median_s=5.0, **common), RUN)
    cpu.add(make_row(name=TSB, mode=TRAINING, median_s=60.0, disturbed=2, **common), RUN)
    for side, seconds in ((512, 5.0), (1024, 1.0), (2048, 4.1), (4096, 16.0)):
        sizes = {"image_size": (side, side), "tokens": side**2 // 256, "median_s": seconds}
        cpu.add(make_row(suite="growth", name=f"windowed {side}", **sizes, **memory), RUN)
    cpu.leave_out("backbone", "piip, compiled", "no time was left")
    for name, variant, seconds in ((BASELINE, "compiled", 0.03), (TSB, "cuda graphs", 0.01)):
        row = make_row(name=name, variant=variant, median_s=seconds, dtype="bfloat16")
        gpu.add(make_row(**{**vars(row), "suite": "detectors"}), RUN | {"threads": None})
    return {"cpu": cpu, "gpu": gpu}


def test_tables(tmp_path: Path) -> None:
    text = as_markdown(_results(tmp_path))
    run = "a processor, 2 threads; torch 2.0; 2020-02-02; `python -m benchmarks.something`"
    assert text.count(run) == 3
    assert (
        f"| {TSB} | eager | float32 | inference | – | 2.5 s (1.5–2.5), 3 "
        f"| 0.50 ({BASELINE}, eager) | 302 GFLOP/s | 98 % | 2.00, 1.50 GiB |"
    ) in text
    assert "60 s (1.5–2.5), 3, 2 disturbed" in text
    assert "* piip, compiled: no time was left" in text


def test_verdicts(tmp_path: Path) -> None:
    results = _results(tmp_path)
    rows = {name: found.rows for name, found in results.items()}
    verdicts = {target.what: target.verdict(rows[target.file]) for target in TARGETS}
    found = {what: verdict for what, verdict in verdicts.items() if verdict[0] is not None}
    cpu = "TSB 1120/896/448, backbone, batch 1, 2 threads"
    assert {what: verdict for what, (_, verdict) in found.items()} == {
        f"{cpu}, forward, float32: share of the ceiling": "reached",
        f"{cpu}, forward, float32: memory of the process": "missed",
        f"{cpu}, forward and backward, float32: share of the ceiling": "missed",
        f"{cpu}, forward and backward, float32: memory of the process": "reached",
        "time over tokens, windowed pyramid, inference: exponent from 1024 pixels on": "reached",
        "GPU, bfloat16, Mask R-CNN TSB 1120/896/448, batch 1: frame rate over ViT-B's at 1024": (
            "reached"
        ),
    }
    assert found[f"{cpu}, forward, float32: share of the ceiling"][0] == pytest.approx(80)
    # Smaller images than 1024 pixels do not count.
    assert growth_exponent(rows["cpu"], INFERENCE) == pytest.approx(1.0)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = _results(tmp_path)
    document = tmp_path / "PERFORMANCE.md"
    arguments = ["--results", str(tmp_path), "--document", str(document)]
    document.write_text(f"# Speed\n\n{START_OF_TABLES}\nold")
    assert performance.main(arguments) == 0
    expected = f"# Speed\n\n{START_OF_TABLES}\n{as_markdown(results)}"
    assert document.read_text(encoding="utf-8") == expected
    document.write_text("# Speed")
    assert performance.main(arguments) == 1
    assert "has no line" in capsys.readouterr().err
