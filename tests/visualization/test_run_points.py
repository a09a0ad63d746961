"""What the folder of a run or of a sweep says about accuracy and costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import LazyConfig

from piip_d2.engine.environment import device_name
from piip_d2.visualization import run_points as module
from piip_d2.visualization.published_points import paper_points
from piip_d2.visualization.run_points import run_points
from piip_d2.visualization.tradeoff import draw_tradeoff
from piip_d2.visualization.tradeoff_points import MEASURED

ROOT = Path(__file__).resolve().parents[2]
SMALL = Path(__file__).with_name("small_config.py")
QUICK = ROOT / "configs" / "quick" / "mask_rcnn_scenes.py"
PUBLISHED = ROOT / "configs" / "mask_rcnn" / "piip_tsb_1120_896_448_1x.py"
RESULTS = {"bbox": {"AP": 41.5, "AP50": None}, "segm": {"AP": 30.0}}
COSTS = {"latency_median_ms": 20.0, "latency_p10_ms": 18.0, "latency_p90_ms": 25.0}


def _run(folder: Path, config: Path = SMALL, **results: Any) -> Path:
    folder.mkdir()
    cfg = LazyConfig.load(str(config))
    LazyConfig.save(cfg, str(folder / "config.yaml"))
    (folder / "results.json").write_text(json.dumps(RESULTS | results))
    return folder


def _sweep(folder: Path, config: str) -> Path:
    cost = {"median_s": 0.02, "quartiles_s": [0.01, 0.03], "num_images": 12}
    cost["multiply_adds"] = 2e9
    content = {
        "settings": {"config_file": config, "device": "cpu", "device_name": "x"},
        "points": [
            {
                "resolutions": [64, 32],
                "is_trained": True,
                "cost": cost,
                "metrics": {"bbox/AP": 12.5},
            },
            {"resolutions": [32, 16], "is_trained": False, "cost": cost, "metrics": {}},
        ],
    }
    folder.mkdir()
    (folder / "sweep.json").write_text(json.dumps(content))
    return folder


def test_run_with_a_pyramid(tmp_path: Path) -> None:
    (point,) = run_points(_run(tmp_path / "mine", QUICK, inference=COSTS), metric="segm/AP")
    assert (point.series, point.label) == ("mine", "256/128/64")
    assert (point.source, point.dataset, point.accuracy) == (MEASURED, "scenes_v1_val", 30.0)
    # The paper has no rule for the stem of this network.
    assert list(point.flops) == ["actual"] and 2e9 < point.flops["actual"] < 4e9
    assert point.latency.median == 20.0 and point.latency.spread == (18.0, 25.0)
    assert point.latency.quantiles == "10th and 90th percentile"
    assert point.latency.device == "the CPU that evaluated the run"


@pytest.mark.parametrize(
    ("costs", "spread"),
    [
        ({"latency_median_ms": 20.0, "images": 16.0}, None),
        # As earlier versions wrote it, of however few images.
        (COSTS | {"images": 1.0}, None),
        (COSTS | {"images": 10.0}, (18.0, 25.0)),
    ],
)
def test_latency_of_few_images(
    tmp_path: Path, costs: dict[str, float], spread: tuple[float, float] | None
) -> None:
    (point,) = run_points(_run(tmp_path / "mine", inference=costs))
    assert point.latency.median == 20.0 and point.latency.spread == spread
    assert point.latency.num_images == costs["images"]
    assert point.latency.is_rough == (spread is None)


def test_run_of_a_published_network(tmp_path: Path) -> None:
    (point,) = run_points(_run(tmp_path / "mine", PUBLISHED, inference=COSTS | {"max_gpu_mb": 9.0}))
    published = next(
        each for each in paper_points(ROOT / "docs" / "paper_rows.csv") if "TSB" in each.series
    )
    assert (point.dataset, point.label) == (published.dataset, published.label)
    assert point.flops["paper"] == pytest.approx(published.flops["paper"], rel=0.005)
    assert point.flops["actual"] > point.flops["paper"]
    assert point.latency.device == "the GPU that evaluated the run"


def test_best_weights_have_their_own_evaluation(tmp_path: Path) -> None:
    run = _run(tmp_path / "mine")
    (run / "model_best.pth").touch()
    lines = [{"iteration": 9, "bbox/AP": 50.0}, {"iteration": 19, "bbox/AP": 45.0}]
    (run / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    assert run_points(run)[0].accuracy == 50.0


def test_detector_without_a_pyramid_has_no_flops(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (point,) = run_points(_run(tmp_path / "mine"))
    assert point.flops == {} and point.latency is None and point.dataset == "small_test"
    assert "has no FLOPs in the picture" in caplog.text


def test_latency_is_measured_where_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _run(tmp_path / "mine", QUICK, inference=COSTS)
    (run / "model_final.pth").touch()
    asked = []

    def measure(work: Any, point: Any, num_images: int) -> Any:
        asked.append((point.checkpoint, point.resolutions, point.trained, num_images))
        return module.Cost(0.1, (0.09, 0.12), num_images, 0, (64, 64))

    monkeypatch.setattr(module, "in_own_process", measure)
    (point,) = run_points(run, latency_images=3, device="cpu")
    assert asked == [(str(run / "model_final.pth"), (256, 128, 64), (256, 128, 64), 3)]
    assert point.latency.median == pytest.approx(100)
    assert point.latency.spread == pytest.approx((90, 120))
    assert point.latency.num_images == 3
    assert point.latency.quantiles == "quartiles" and point.latency.device == device_name("cpu")


def test_run_and_sweep_of_one_machine_share_axes(tmp_path: Path) -> None:
    run = _run(tmp_path / "mine", QUICK, inference=COSTS | {"device_name": "x"})
    sweep = _sweep(tmp_path / "sweep", "quick/mask_rcnn_scenes")
    points = [*run_points(run), *run_points(sweep)]
    assert [point.latency.device for point in points] == ["x", "x"]
    assert [point.dataset for point in points] == ["scenes_v1_val"] * 2
    panels = [axes.get_xlabel() for axes in draw_tradeoff(points).axes]
    assert panels.count("latency of one image in ms on x") == 1
    assert len(panels) == 2


def test_sweep(tmp_path: Path) -> None:
    _sweep(tmp_path / "sweep", str(SMALL))
    (point,) = run_points(tmp_path / "sweep")
    assert (point.label, point.accuracy, point.is_marked) == ("64/32", 12.5, True)
    assert point.series == "small_config, other resolutions"
    assert point.flops == {"actual": 2e9} and point.dataset == "small_test"
    assert point.latency.median == 20 and point.latency.spread == (10, 30)
    assert point.latency.device == "x" and point.latency.num_images == 12
    with pytest.raises(ValueError, match="no finished point with segm/AP"):
        run_points(tmp_path / "sweep", metric="segm/AP")


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="of a sweep, with its sweep.json; it has neither"):
        run_points(tmp_path)
    run = _run(tmp_path / "mine")
    with pytest.raises(ValueError, match="evaluated with bbox/AP50, but has bbox/AP, bbox/AP50"):
        run_points(run, metric="bbox/AP50")
    (run / "results.json").unlink()
    with pytest.raises(ValueError, match="but has no evaluation; evaluate it with"):
        run_points(run)
