"""Each benchmark runs from its command line to its rows; processes of tasks are played."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import backbone_speed, ceilings, command, growth, operator_speed, stopwatch, suite
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import plan
from benchmarks.gpu.plan import PLAN, ahead_of_time, plan_groups
from benchmarks.networks import BASELINE, COMPILED, EXPERIMENTS, GRAPHS, NAIVE
from benchmarks.rows import CEILINGS, INFERENCE, TRAINING, Results, Row
from benchmarks.stopwatch import Patience, measure
from benchmarks.worker import Task
from tests.benchmarks.example_rows import make_row

TINY = ["--tiny", "--device", "cpu", "--threads", "1"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Gives every variant of a task a row at once, and remembers the tasks."""
    seen: list[Task] = []

    def play(
        tasks: Sequence[Task], limit_s: float, *, compile_threads: int | None = None
    ) -> Iterator[Row]:
        assert limit_s > 0 and (compile_threads is None or compile_threads > 0)
        for task in tasks:
            seen.append(task)
            for variant in task.variants:
                suite_, name, _, dtype, mode = task.key(variant)
                side = task.image_side or 64
                yield make_row(
                    suite=suite_,
                    name=name,
                    variant=variant,
                    dtype=dtype,
                    mode=mode,
                    median_s=side**2 / 1e6,
                    image_size=(side, side),
                    tokens=side**2 // 256,
                    flop=task.flop,
                    ceiling="arithmetic",
                    baseline=task.baseline,
                    peak_memory_bytes=2**30 + side**2,
                    idle_memory_bytes=2**30,
                )

    for module in (backbone_speed, plan):
        monkeypatch.setattr(module, "count_flop", lambda *_, **__: 1e6)
    monkeypatch.setattr(growth, "count_windowed_flop", lambda *_: 1e6)
    monkeypatch.setattr(suite, "measure_in_process", play)
    monkeypatch.setattr(gpu, "measure_in_process", play)
    return seen


def test_ceilings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cpu.json"
    ceilings.main([*TINY, "--output", str(file)])
    rows = Results(file).rows
    assert {row["suite"] for row in rows} == {CEILINGS}
    for dtype in ceilings.DTYPES:
        kinds = {row["name"].split()[0] for row in rows if row["dtype"] == dtype}
        assert kinds == {"matrix", "3x3", "copy", "triad"}
    assert all(("flop" in row) != ("moved_bytes" in row) for row in rows)
    assert capsys.readouterr().out.count("FLOP/s") == sum("flop" in row for row in rows)
    assert rows[0]["command"] == f"python -m benchmarks.ceilings {' '.join(TINY)} --output {file}"


def test_what_a_ceiling_computes() -> None:
    product = ceilings._product((4, 3, 5), {"dtype": torch.float32})()
    pointwise = ceilings._pointwise((4, 3, 5), {"dtype": torch.float32})()
    convolution = ceilings._convolution(6, 7, {"dtype": torch.float32})()
    assert [tuple(x.shape) for x in (product, pointwise, convolution)] == [
        *((4, 5), (1, 5, 4, 1)),
        (1, 6, 7, 7),
    ]


def test_backbones(tmp_path: Path, asked: list[Task]) -> None:
    file = tmp_path / "cpu.json"
    arguments = [*TINY, "--output", str(file), "--variants", "eager", "--modes", INFERENCE]
    backbone_speed.main(arguments)
    assert [(task.network, task.dtype) for task in asked] == [
        (backbone_speed.PYRAMID, "float32"),
        (backbone_speed.PYRAMID, "bfloat16"),
        (BASELINE, "float32"),
        (BASELINE, "bfloat16"),
    ]
    rows = {(row["name"], row["dtype"]): row for row in Results(file).rows}
    # Ceilings are measured along, for the shares.
    assert all(rows[task.network, task.dtype]["ceiling_share"] > 0 for task in asked)
    assert rows[backbone_speed.PYRAMID, "float32"]["ratio"] == 1.0
    backbone_speed.main([*arguments, "--resume"])
    assert len(asked) == 4
    backbone_speed.main(arguments)
    assert len(asked) == 8


def test_plan_has_everything_for_the_processor() -> None:
    found = {entry[1:] for entry in backbone_speed.PLAN if entry[0] == backbone_speed.PYRAMID}
    for mode in (INFERENCE, TRAINING):
        for dtype in ("float32", "bfloat16"):
            assert {(mode, dtype, "eager"), (mode, dtype, "compiled")} <= found
    assert len(set(backbone_speed.PLAN)) == len(backbone_speed.PLAN)


def test_operator(tmp_path: Path) -> None:
    file = tmp_path / "cpu.json"
    operator_speed.main([*TINY, "--output", str(file)])
    results = Results(file)
    assert not results.left_out
    assert len(results.rows) == 2 * 2 * 4
    for row in results.rows:
        assert row["ratio"] > 0
    needed = 4 * ((26 + 15) * 2 * 6 + 15 * 2 * 2 * 4 * 3)
    plain = [row for row in results.rows if row["variant"] == "piip_d2" and "moved_bytes" in row]
    assert {row["dtype"]: row["moved_bytes"] for row in plain}["float32"] == needed
    operator_speed.main([*TINY, "--output", str(file), "--budget", "0"])
    assert Results(file).left_out[0]["why"] == "no time was left"


def test_growth(tmp_path: Path, asked: list[Task]) -> None:
    file, plot = tmp_path / "cpu.json", tmp_path / "images" / "growth.png"
    growth.main([*TINY, "--output", str(file), "--plot", str(plot)])
    assert [task.image_side for task in asked] == [256, 256, 512, 512]
    assert plot.read_bytes().startswith(b"\x89PNG")
    rows = growth.growth_rows(Results(file))[TRAINING]
    assert [row["image_size"][0] for row in rows] == [256, 512]
    assert [growth.own_memory(row) for row in rows] == [256**2, 512**2]
    figure = growth.draw(growth.growth_rows(Results(file)), plot)
    about, run = figure.get_suptitle().splitlines()
    assert about.startswith(f"{growth.NETWORK}: time and memory of one image")
    assert all(part in run for part in ("float32", "eager", rows[0]["device"], "thread"))
    caption = figure.get_supxlabel().replace("\n", " ")
    assert "medians of squares of 256, 512 pixels" in caption and "Dotted:" in caption
    # A power is fitted through large images alone.
    assert "power" not in caption
    large = [dict(row, image_size=[4 * side for side in row["image_size"]]) for row in rows]
    caption = growth.draw({TRAINING: large}, plot).get_supxlabel()
    assert "(training) from 1024 pixels on" in caption.replace("\n", " ")
    for axes in figure.axes:
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels == [f"{mode}, {what}" for mode in (INFERENCE, TRAINING)
                          for what in ("measured", "if linear")]  # fmt: skip
    assert [axes.get_title() for axes in figure.axes] == ["Time", "Memory"]
    assert all("GiB" in axes.get_ylabel() or "seconds" in axes.get_ylabel() for axes in figure.axes)


def test_growth_keeps_within_the_memory(tmp_path: Path, asked: list[Task]) -> None:
    file = tmp_path / "cpu.json"
    words = ["--device", "cpu", "--threads", "1", "--output", str(file), "--memory", "20"]
    growth.main(words)
    sides = [(task.image_side, task.mode) for task in asked]
    assert (4096, INFERENCE) in sides and (2048, TRAINING) in sides
    assert len(asked) + len(Results(file).left_out) == 2 * len(growth.SIDES)
    *_, entry = Results(file).left_out
    assert entry["what"] == f"growth, {growth.NETWORK} 4096, eager, training, float32"
    assert entry["why"] == "needs about 52 GiB of 20"
    assert 0 < growth.free_gib() < 1e5


def test_gpu(tmp_path: Path, asked: list[Task], capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gpu.json"
    gpu.main([*TINY, "--output", str(file), "--ahead", "2"])
    results = Results(file)
    found = {(row["suite"], row["variant"]) for row in results.rows}
    for name in ("backbone", "detectors"):
        assert {(name, variant) for variant in ("eager", COMPILED, GRAPHS, NAIVE)} <= found
    assert {row["suite"] for row in results.rows} >= {CEILINGS, "operator"}
    ahead = [
        task for tasks in ahead_of_time(list(plan_groups("cpu", 1, tiny=True))) for task in tasks
    ]
    # What is asked before operations are counted is called for the compilers.
    first = [task for task in asked if task.flop is None]
    assert ahead and sorted(first, key=Task.as_json) == sorted(ahead, key=Task.as_json)
    assert capsys.readouterr().out.count("compiled ahead") == sum(
        len(task.variants) for task in ahead
    )
    assert {task.flop for task in asked if task not in first} == {1e6}
    count = len(asked)
    gpu.main([*TINY, "--output", str(file), "--resume"])
    assert len(asked) == count


def test_plan_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "count_flop", lambda *_, **__: 1.0)
    groups = list(plan_groups("cuda", 2, tiny=False))
    keys = [task.key(variant) for group in groups for task in group for variant in task.variants]
    assert len(set(keys)) == len(keys)
    # What is naive needs a process of its own, with another environment.
    for group in PLAN:
        variants = [variants for *_, variants in group]
        assert all(x == (NAIVE,) for x in variants) or not any(NAIVE in x for x in variants)
    # A process per network at most, so that they fit beside each other.
    ahead = ahead_of_time(groups)
    networks = [{task.network for task in tasks} for tasks in ahead]
    assert all(len(names) == 1 for names in networks) and len(networks) == len(EXPERIMENTS)
    assert all(set(task.variants) <= {COMPILED, GRAPHS} for tasks in ahead for task in tasks)
    only = plan_groups("cuda", 2, ["eager"], tiny=False)
    assert {x for group in only for task in group for x in task.variants} == {"eager"}


def test_a_processor_is_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--device", "cpu"], ["--variants", "fast"]):
        with pytest.raises(SystemExit):
            gpu.main(words)
    error = capsys.readouterr().err
    assert "full sizes need a GPU, but the device is cpu" in error and "invalid choice" in error


def test_stopwatch_stops() -> None:
    calls: list[int] = []
    patience = Patience(samples=4, at_least=2, seconds=100.0, sample_s=0.0)
    device = torch.device("cpu")
    timing = measure(lambda: calls.append(1), device, patience).timing
    assert (timing.samples, len(calls)) == (4, 3 + 4)
    slow = dataclasses.replace(patience, seconds=0.0, always_warm_up=True)
    measure(lambda: calls.append(1), device, slow)
    assert len(calls) == 7 + 3 + 2
    hasty = dataclasses.replace(patience, seconds=0.0)
    assert measure(lambda: None, device, hasty).timing.samples == 2


def test_command_to_repeat() -> None:
    words = ["--resume", "--output", "a.json"]
    assert command.command_line("benchmarks.growth", words) == (
        "python -m benchmarks.growth --output a.json"
    )


def test_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    times: Any = iter([1.0, 3.5])
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: next(times))
    assert stopwatch.timed(lambda: None, torch.device("cpu")) == 2.5
