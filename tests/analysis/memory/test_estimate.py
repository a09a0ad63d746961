"""What a process needs, from a step, a strategy and a number of processes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from piip_d2.analysis.memory import Batch, MemoryEstimate, Setting, estimate_memory
from piip_d2.analysis.memory.configs import Question, estimate_config
from piip_d2.analysis.memory.measurement import Experiment, measure_peak
from piip_d2.analysis.memory.sharded import gathered_peak
from tests.analysis.small import CONFIG, small_detector

SMALL = Batch((128, 128))


def estimate(**options: Any) -> MemoryEstimate:
    setting = Setting(SMALL, **options)
    return estimate_memory(small_detector(), setting, lambda m: torch.optim.SGD(m.parameters()))


def test_total_is_what_is_there_and_the_worst_phase() -> None:
    found = MemoryEstimate({"weights": 5, "buffers": 1}, {"forward": 7, "backward": 9})
    assert found.total == 15


def test_processes_share_weights_gradients_and_states() -> None:
    plain, shared = estimate(strategy="ddp", world_size=4), estimate(strategy="fsdp", world_size=4)
    for name in ("weights", "gradients"):
        assert shared.fixed[name] == -(-plain.fixed[name] // 4)
    assert shared.fixed["buffers"] == plain.fixed["buffers"] > 0
    assert shared.phases["forward"] > plain.phases["forward"], "what is gathered comes on top"
    weights = sum(p.numel() * p.element_size() for p in small_detector().parameters())
    assert 0 < gathered_peak(small_detector(), 2, backward=False) < 2 * weights
    offloaded = estimate(strategy="fsdp", world_size=4, cpu_offload=True)
    assert set(offloaded.fixed) == {"buffers"}
    assert offloaded.host == sum(shared.fixed.values()) - shared.fixed["buffers"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "test"}, "mode must be one of"),
        ({"strategy": "zero"}, "strategy must be one of"),
        ({"world_size": 0}, "world_size must be 1 or more, got 0"),
        ({"world_size": 2}, '2 processes need the strategy "ddp" or "fsdp"'),
        ({"cpu_offload": True}, "cpu_offload goes with"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Setting(SMALL, **options)


def test_configurations_say_what_nobody_asks() -> None:
    overrides = ["train.activation_checkpointing=selective", "train.ema.enabled=True"]
    setting, found = estimate_config(CONFIG, Question(batch_size=1), overrides)
    assert setting.batch == Batch((256, 256), 1, torch.bfloat16)
    assert found.fixed["moving average"] > 0
    _, plain = estimate_config(CONFIG, Question(batch_size=1))
    assert sum(found.kept.values()) < sum(plain.kept.values())


@pytest.mark.slow
@pytest.mark.parametrize("act_checkpoint", [False, "block"])
def test_prediction_is_within_ten_percent_of_a_real_process(act_checkpoint: bool | str) -> None:
    batch = Batch((512, 512), 2, num_objects=8)
    question = Question(
        batch.image_size, 2, precision="fp32", act_checkpoint=act_checkpoint, num_objects=8
    )
    _, predicted = estimate_config(CONFIG, question)
    experiment = Experiment(CONFIG, batch, CONFIG, act_checkpoint=act_checkpoint)
    assert predicted.total == pytest.approx(measure_peak(experiment), rel=0.1)
