"""The benchmark refuses what is wrong, counts right and reports; speed is not a test's business."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import ms_deform_attn
from benchmarks.msda import gpu_floor, study, summary
from benchmarks.msda.accuracy import TOLERANCES, check, expected_results, relative_error
from benchmarks.msda.ceiling import GatherCeiling
from benchmarks.msda.implementations import (
    FUSED,
    GRID_SAMPLE,
    PLAIN,
    TORCH_MSDA,
    WITH_PREPARATION,
    Implementation,
    bind,
    default_names,
    grid_sample_form,
)
from benchmarks.msda.machine import MachineLoad
from benchmarks.msda.problems import SHAPES, Problem, Shape, make_problem
from benchmarks.msda.report import format_table
from benchmarks.msda.study import BOTH, FORWARD, Plan, measure_shape
from benchmarks.msda.timing import (
    Call,
    CpuClock,
    Sample,
    Settings,
    quantile,
    summarize,
    time_in_turns,
)

CPU = torch.device("cpu")
LEVELS = ((5, 4), (3, 2))
TINY = Shape(LEVELS, (3, 5), heads=2, width=6, batch=2)
ENCODER = Shape(LEVELS, None, heads=2, width=6)
DECODER = Shape(LEVELS, 7, heads=2, width=6)
QUICK = Settings(samples=2, sample_ms=0.1, tries=1)

needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")


def test_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ms_deform_attn, "SHAPES", {"tiny": TINY, "decoder": DECODER})
    file = tmp_path / "results" / "speed.json"
    quick = ["--samples", "2", "--sample-ms", "0.1", "--tries", "1", "--threads", "1"]
    shapes = ["--shapes", "tiny", "decoder", "--without-ceiling", "--device", "cpu"]
    ms_deform_attn.main([*quick, *shapes, "--json", str(file)])
    report = json.loads(file.read_text())
    assert {"device", "torch", "date", "threads", "peers", "load_source", "ratios"} <= set(report)
    assert (report["samples"], report["threads"], report["locations"]) == (2, 1, "local")
    for direction in (FORWARD, BOTH):
        for dtype in ("float32", "bfloat16"):
            by_shape = report["milliseconds"][direction][dtype]
            assert list(by_shape) == ["tiny", "decoder"]
            assert set(by_shape["tiny"]) == set(default_names(CPU))
            for timing in by_shape["tiny"].values():
                low, high = timing["quartiles_ms"]
                assert 0 < low <= timing["median_ms"] <= high
                assert timing["samples"] == 2
            assert f"{GRID_SAMPLE} / {PLAIN}" in report["ratios"][direction][dtype]
        assert PLAIN in report["float32_ratios"][direction]["bfloat16"]
    assert report["refused"] == {}
    text = capsys.readouterr().out
    assert "forward_backward, bfloat16" in text
    assert f"{PLAIN}{WITH_PREPARATION} / {FUSED}" in text


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [TINY, ENCODER, DECODER])
def test_everything_right_is_let_through(shape: Shape, dtype: torch.dtype) -> None:
    problem = make_problem(shape).to(dtype, CPU)
    expected = expected_results(problem)
    for implementation in bind(default_names(CPU), problem):
        errors, complaint = check(implementation, problem, expected, TOLERANCES[dtype])
        assert complaint is None, implementation.name
        assert len(errors) == 4


def _wrong(problem: Problem, kind: str) -> Implementation:
    """``grid_sample`` with one mistake."""

    def operator(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        if kind == "grad_value":
            value = value / 2 + value.detach() / 2
        if kind == "grad_locations":
            locations = 1.001 * locations - 0.001 * locations.detach()
        if kind == "grad_weights":
            weights = weights.detach() + 0 * weights
        output = grid_sample_form(value, LEVELS, locations, weights)
        if kind == "output":
            output = output + 1e-3
        if kind == "nan":
            output = output.where(output < output.max(), torch.nan)
        if kind == "shape":
            return output[:, 1:]
        if kind == "unable":
            raise NotImplementedError("no kernel for this width\nand much more")
        return output

    return Implementation("wrong", "plain", operator)


@pytest.mark.parametrize(
    "kind", ["output", "grad_value", "grad_locations", "grad_weights", "nan", "shape", "unable"]
)
def test_wrong_implementation_is_not_timed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong_and_right(_: object, problem: Problem) -> list[Implementation]:
        return [_wrong(problem, kind), *bind([GRID_SAMPLE], problem)]

    monkeypatch.setattr(study, "bind", wrong_and_right)
    plan = Plan((), [torch.float32], [FORWARD, BOTH], CPU, with_ceiling=False)
    result = measure_shape(TINY, plan, CpuClock(), QUICK)
    complaint = result.refused["float32"]["wrong"]
    named = {"nan": "output", "shape": "Mismatch in shape", "unable": "no kernel for this width"}
    assert named.get(kind, kind) in complaint
    assert "\n" not in complaint
    for direction in (FORWARD, BOTH):
        assert list(result.timings[direction]["float32"]) == [GRID_SAMPLE]


def test_relative_error() -> None:
    expected = torch.tensor([4.0, -8.0], dtype=torch.float64)
    assert relative_error(torch.tensor([4.0, -7.0]), expected) == 1 / 8
    assert relative_error(torch.tensor([4.0]), expected) == math.inf
    assert math.isnan(relative_error(torch.tensor([4.0, math.nan]), expected))


def test_unknown_implementation() -> None:
    with pytest.raises(ValueError, match="no implementation 'cudnn'; known are"):
        bind(["cudnn"], make_problem(TINY))


def test_shapes_of_the_study() -> None:
    assert set(summary.MEAN_SHAPES) <= set(SHAPES)
    assert {shape.width for shape in SHAPES.values()} == {6, 12, 24, 32, 100}
    encoder = make_problem(dataclasses.replace(SHAPES["E"], heads=1, width=1))
    assert encoder.value.shape[1] == encoder.locations.shape[1] == 17821


@pytest.mark.parametrize("shape", [TINY, ENCODER, DECODER])
@pytest.mark.parametrize("uniform", [False, True])
def test_problem(shape: Shape, uniform: bool) -> None:
    problem = make_problem(shape, uniform=uniform)
    pixels = problem.locations.double() * problem.sizes[:, None] - 0.5
    share = pixels - pixels.floor()
    assert share.min() > 0.019 and share.max() < 0.981
    if uniform:
        assert problem.locations.min() > -0.2 and problem.locations.max() < 1.2
    else:
        # The fourth point of the first head is four pixels to the right of the query.
        assert torch.allclose(
            problem.offsets[:, :, 0, :, 3].mean((0, 1, 2)), torch.tensor([4.0, 0.0]), atol=0.5
        )
    again = make_problem(shape, uniform=uniform)
    assert torch.equal(problem.value, again.value)
    assert torch.equal(problem.locations, again.locations)


@needs_compiler
def test_gather_ceiling_computes_the_operator() -> None:
    problem = make_problem(TINY)
    assert relative_error(GatherCeiling(problem)(), expected_results(problem)["output"]) < 1e-6
    odd = make_problem(dataclasses.replace(TINY, width=5))
    with pytest.raises(ValueError, match="no case for head width 5"):
        GatherCeiling(odd)


class _ScriptedClock:
    """Takes 2 ms per call, and hands out prepared loads by other processes."""

    def __init__(self, others: list[float]) -> None:
        self.others = others
        self.repeats: list[int] = []

    def sample(self, call: Call, repeats: int) -> Sample:
        call.function()
        self.repeats.append(repeats)
        # The first three samples find out how often to call.
        others = self.others[len(self.repeats) - 4] if len(self.repeats) > 3 else 0.0
        return Sample(2.0 + others, others)


def test_disturbed_samples_are_measured_again() -> None:
    clock = _ScriptedClock([0.5, 0.0, 0.3, 0.0, 0.0])
    settings = Settings(samples=3, sample_ms=7.0, max_others=0.1, tries=5)
    timing = time_in_turns({"one": Call(lambda: None)}, clock, settings)["one"]
    assert (timing.median_ms, timing.samples, timing.rejected, timing.disturbed) == (2.0, 3, 2, 0)
    assert timing.repeats == clock.repeats[-1] == 4
    assert len(clock.repeats) == 3 + 5


def test_least_disturbed_samples_are_kept_in_the_end() -> None:
    clock = _ScriptedClock([0.5, 0.0, 0.3, 0.4])
    settings = Settings(samples=2, sample_ms=2.0, max_others=0.1, tries=2)
    timing = time_in_turns({"one": Call(lambda: None)}, clock, settings)["one"]
    assert (timing.samples, timing.rejected, timing.disturbed) == (2, 2, 1)
    assert timing.median_ms == pytest.approx(2.15)


def test_functions_take_turns() -> None:
    seen: list[str] = []
    calls = {name: Call(lambda name=name: seen.append(name)) for name in "abc"}
    time_in_turns(calls, _ScriptedClock([0.0] * 99), Settings(samples=6, sample_ms=2.0))
    rounds = ["".join(seen[start : start + 3]) for start in range(12, len(seen), 3)]
    assert len(rounds) == 6
    assert {"".join(sorted(turn)) for turn in rounds} == {"abc"}
    assert len(set(rounds)) > 1


def test_calls_that_do_it_several_times() -> None:
    sample = CpuClock().sample(Call(lambda: time.sleep(0.02), times=10), repeats=2)
    assert 2.0 <= sample.milliseconds < 20.0


def test_statistics() -> None:
    assert [quantile([1.0, 2.0, 4.0], share) for share in (0.0, 0.25, 0.5, 1.0)] == [1, 1.5, 2, 4]
    assert summary.geometric_mean([1.0, 4.0, 16.0]) == pytest.approx(4.0)
    with pytest.raises(ValueError, match="at least one number"):
        summary.geometric_mean([])
    timing = summarize([Sample(3.0, 0.0)], 1, Settings())
    assert (timing.median_ms, timing.quartiles_ms) == (3.0, (3.0, 3.0))


def test_ratios() -> None:
    medians = {
        "A": {GRID_SAMPLE: 8.0, PLAIN: 2.0},
        "P5": {GRID_SAMPLE: 100.0, PLAIN: 1.0},
        "B": {GRID_SAMPLE: 9.0, PLAIN: 1.0, TORCH_MSDA: 2.0},
    }
    found = summary.ratios(medians)
    assert list(found) == [f"{GRID_SAMPLE} / {PLAIN}", f"{TORCH_MSDA} / {PLAIN}"]
    ratio = found[f"{GRID_SAMPLE} / {PLAIN}"]
    assert ratio["geometric_mean"] == 6.0  # without P5
    assert ratio["smallest"] == {"shape": "A", "ratio": 4.0}
    assert ratio["largest"] == {"shape": "P5", "ratio": 100.0}
    halves = {"A": {PLAIN: 1.0}, "C": {PLAIN: 1.0}}
    assert summary.dtype_ratios(halves, medians)[PLAIN]["by_shape"] == {"A": 0.5}


def test_format_table() -> None:
    text = format_table([["name", "x"], ["long name", "1.25"], ["b", "10.00"]])
    assert text.split("\n") == [
        "name           x",
        "----------------",
        "long name   1.25",
        "b          10.00",
    ]


def test_load_counts_work() -> None:
    load = MachineLoad()
    if load.source is None:
        pytest.skip("this system does not tell")
    before, start = load.seconds(), time.process_time()
    while time.process_time() - start < 0.1:
        pass
    assert load.seconds() - before > 0.05


def test_width_of_loads() -> None:
    assert [gpu_floor.vector_bytes(size) for size in (128, 48, 24, 12)] == [16, 16, 8, 4]
    with pytest.raises(ValueError, match="multiple of 4 bytes, got 6"):
        gpu_floor.vector_bytes(6)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_floor_without_a_gpu() -> None:
    assert gpu_floor.measure_gpu_floor({"tiny": TINY}) == {
        "not_measured": "there is no CUDA device"
    }


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_floor() -> None:
    rates = gpu_floor.measure_gpu_floor({"tiny": TINY})["tiny"]
    assert {"gather_l1_float32", "gather_l2_bfloat16", "reduction_f32"} <= set(rates)
    assert all(rate > 0 for rate in rates.values())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no CUDA compiler")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_gpu_floor_compiles(tmp_path: Path, architecture: str) -> None:
    assert gpu_floor.compile_source(tmp_path, architecture).is_file()
