"""What is timed does what it says, on tiny networks and detectors; speed is no test's business."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import worker
from benchmarks.costs import _report, count_flop
from benchmarks.networks import (
    BASELINE,
    EXPERIMENTS,
    NAIVE,
    build_model,
    build_windowed_pyramid,
    count_tokens,
    find_pyramids,
    load_model_config,
    use_variant,
)
from benchmarks.rows import INFERENCE, TRAINING
from benchmarks.steps import let_candidates_pass, make_detector_step, make_network_step
from benchmarks.targets import STATED_FLOP
from benchmarks.worker import DETECTORS, FAILURE_MARK, ROW_MARK, Task
from piip_d2.engine.precision import Precision
from piip_d2.modeling.backbone import PIIPNetwork

PYRAMID = "piip_tsb_1120_896_448"
CPU = torch.device("cpu")
ONE_SAMPLE = {"samples": 1, "at_least": 1, "seconds": 0.0, "sample_s": 0.0}


def _task(**fields: Any) -> Task:
    defaults = {"suite": "backbone", "network": PYRAMID, "mode": INFERENCE, "dtype": "float32"}
    options = {"variants": ("eager",), "threads": 1, "patience": ONE_SAMPLE, "tiny": True}
    return Task(**{**defaults, **options, **fields})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", [INFERENCE, TRAINING])
def test_row_of_a_backbone(mode: str, dtype: str) -> None:
    task = _task(mode=mode, dtype=dtype, flop=1e9, baseline=(BASELINE, "eager"))
    row = worker.measure_variant(task, "checkpointed block" if mode == TRAINING else NAIVE)
    assert (row.suite, row.name, row.mode, row.dtype) == ("backbone", PYRAMID, mode, dtype)
    assert row.image_size == (160, 160) and row.tokens == 10**2 + 8**2 + 4**2
    assert row.peak_memory_bytes and row.idle_memory_bytes
    assert row.peak_memory_bytes >= row.idle_memory_bytes > 2**27
    assert (row.ceiling, row.baseline) == ("arithmetic", (BASELINE, "eager"))


def test_one_failure_leaves_the_others_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: nn.Module, variant: str) -> None:
        if variant == "compiled":
            raise torch.OutOfMemoryError("out of memory\nand much more")

    monkeypatch.setattr(worker, "use_variant", refuse)
    task = _task(network=BASELINE, variants=("compiled", "eager"))
    worker.main([task.as_json()])
    # What is compiled comes last.
    row, failure = capsys.readouterr().out.splitlines()
    assert json.loads(failure.removeprefix(FAILURE_MARK)) == {
        "key": list(task.key("compiled")),
        "why": "out of memory",
    }
    assert json.loads(row.removeprefix(ROW_MARK))["variant"] == "eager"


def test_any_error_is_a_failure_and_one_of_the_gpu_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter([FloatingPointError("infinite"), RuntimeError("CUDA error: illegal address")])

    def fail(*_: Any) -> None:
        raise next(errors)

    monkeypatch.setattr(worker, "measure_variant", fail)
    task = _task(variants=("eager", NAIVE, "compiled"))
    with pytest.raises(SystemExit, match="illegal address"):
        worker.main([task.as_json()])
    lines = capsys.readouterr().out.splitlines()
    failures = [json.loads(line.removeprefix(FAILURE_MARK)) for line in lines]
    assert [failure["key"][2] for failure in failures] == ["eager", NAIVE]


def test_what_is_compiled_comes_last() -> None:
    tasks = [
        _task(suite=suite, variants=("eager", "compiled")) for suite in (DETECTORS, "backbone")
    ]
    order = [(task.suite, variant) for task, variant in worker.in_order(tasks)]
    assert order == [(x, y) for y in ("eager", "compiled") for x in (DETECTORS, "backbone")]


def test_detector_and_backbone_share_a_model() -> None:
    tasks = [_task(suite=suite) for suite in (DETECTORS, "backbone")]
    models = worker.Models(tasks)
    detector = models.get(tasks[0], "eager")
    assert models.get(tasks[1], "eager") is find_pyramids(detector)[0]
    compiled = models.get(tasks[1], "compiled")
    assert compiled is find_pyramids(models.get(tasks[0], "compiled"))[0]
    assert compiled._compiled_call_impl is not None
    # What is compiled does not become eager again.
    assert models.get(tasks[0], "eager") is not detector
    alone = worker.Models(tasks[1:]).get(tasks[1], "eager")
    assert isinstance(alone, PIIPNetwork)


def test_a_training_step_reaches_every_weight() -> None:
    network = build_model(PYRAMID, whole_detector=False, tiny=True)
    images = torch.randn(2, 3, 160, 160)
    make_network_step(network, images, Precision("fp32", CPU), "eager", training=True)()
    without = [name for name, x in network.named_parameters() if x.grad is None]
    assert not without
    assert any(x.grad.abs().max() > 1e-6 for x in network.parameters() if x.grad is not None)


@pytest.mark.parametrize("name", [PYRAMID, "dino_piip_tsb_1120_896_448"])
def test_a_detector_trains_and_detects(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, whole_detector=True, tiny=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    precision = Precision("bf16", CPU)
    let_candidates_pass(model, precision, 1)
    make_detector_step(model, precision, "eager", training=True, batch_size=1)()
    after = model.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    step = make_detector_step(model, precision, "eager", training=False, batch_size=1)
    (output,) = step()  # type: ignore[misc]
    # Random weights or not, there is something to cut out and to draw.
    assert len(output["instances"]) >= 50
    assert output["instances"].has("pred_masks") == (name == PYRAMID)


def test_variants_change_the_network_alone() -> None:
    model = build_model(BASELINE, whole_detector=True, tiny=True)
    use_variant(model, "compiled")
    compiled = [module for module in model.modules() if module._compiled_call_impl is not None]
    assert compiled == find_pyramids(model)
    use_variant(model, "checkpointed block")
    assert find_pyramids(model)[0].use_act_checkpoint


def test_every_experiment_can_be_tiny() -> None:
    with torch.device("meta"):
        for name in EXPERIMENTS:
            network = build_model(name, whole_detector=False, tiny=True)
            assert sum(x.numel() for x in network.parameters()) < 2e6, name
    windows = load_model_config(BASELINE).backbone.bottom_up.branches[0].window_size
    assert None in windows, "the baseline attends globally in some blocks"


def test_tokens_of_a_windowed_pyramid() -> None:
    with torch.device("meta"):
        network = build_windowed_pyramid(256)
    assert count_tokens(network, 256) == 16**2 + 8**2
    # Four times the pixels are four times the tokens, and windows stay as they are.
    with torch.device("meta"):
        assert count_tokens(build_windowed_pyramid(512), 512) == 4 * count_tokens(network, 256)


def test_operations() -> None:
    # The stated ones leave the feature maps out.
    report = _report(PYRAMID, whole_detector=False, tiny=False)
    up_to_the_merge = ("branches", "interactions", "stage_merges", "merge")
    parts = [part for part in report.parts if part.name.split(".")[0] in up_to_the_merge]
    assert 2 * sum(part.flops for part in parts) == pytest.approx(STATED_FLOP, rel=0.01)
    inference = count_flop(PYRAMID, INFERENCE, whole_detector=False, tiny=True)
    twice = count_flop(PYRAMID, TRAINING, whole_detector=False, batch_size=2, tiny=True)
    assert twice == 6 * inference
    detector = count_flop(PYRAMID, TRAINING, whole_detector=True, tiny=True) / 3
    # Neck and RPN come on top, heads on regions do not.
    assert inference < detector < count_flop(PYRAMID, INFERENCE, whole_detector=True, tiny=True)


def test_task_names_its_rows() -> None:
    task = dataclasses.replace(_task(), suite=DETECTORS, image_side=512)
    assert task.key("eager") == (DETECTORS, f"{PYRAMID} 512", "eager", "float32", INFERENCE)
