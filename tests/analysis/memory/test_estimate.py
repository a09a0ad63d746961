"""What a process needs, from a step, a strategy and a number of processes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from piip_d2.analysis.detectors import find_network
from piip_d2.analysis.memory import Batch, MemoryEstimate, Setting, configs, estimate_memory
from piip_d2.analysis.memory.configs import Question, estimate_config
from piip_d2.analysis.memory.measurement import Experiment, measure_peak
from piip_d2.analysis.memory.sharded import gathered_peak
from piip_d2.analysis.memory.storage_watch import WEIGHT_COPIES
from piip_d2.analysis.memory.trace import StepTrace
from tests.analysis.small import CONFIG, small_detector

SMALL = Batch((128, 128))
TRACE = StepTrace({"neck": 100}, 4000, 5000, 300, 400, 60)


def estimate(**options: Any) -> MemoryEstimate:
    setting = Setting(SMALL, **options)
    return estimate_memory(small_detector(), setting, lambda m: torch.optim.SGD(m.parameters()))


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step is run: what comes on top of one does not depend on it."""
    monkeypatch.setattr("piip_d2.analysis.memory.estimate.trace_training", lambda *_, **__: TRACE)


def test_total_is_what_is_there_and_the_worst_phase() -> None:
    found = MemoryEstimate({"weights": 5, "buffers": 1}, {"forward": 7, "backward": 9})
    assert found.total == 15


@pytest.mark.usefixtures("traced")
def test_processes_share_weights_gradients_and_states() -> None:
    plain, shared = estimate(strategy="ddp", world_size=4), estimate(strategy="fsdp", world_size=4)
    for name in ("weights", "gradients", "optimizer states"):
        assert shared.fixed[name] == -(-plain.fixed[name] // 4)
    assert shared.fixed["buffers"] == plain.fixed["buffers"] > 0
    assert shared.phases["forward"] > plain.phases["forward"], "what is gathered comes on top"
    weights = sum(p.numel() * p.element_size() for p in small_detector().parameters())
    assert 0 < gathered_peak(small_detector(), 2, backward=False) < 2 * weights
    offloaded = estimate(strategy="fsdp", world_size=4, cpu_offload=True)
    assert set(offloaded.fixed) == {"buffers"}
    assert offloaded.host == sum(shared.fixed.values()) - shared.fixed["buffers"]


@pytest.mark.usefixtures("traced")
def test_weights_and_gradients_that_are_kept_whole_come_on_top() -> None:
    sharded = {"strategy": "fsdp", "world_size": 4, "keeps_gradients": True}
    plain = estimate(**sharded)
    weights = sum(p.numel() * 4 for p in small_detector().parameters() if p.requires_grad)
    whole = estimate(**sharded, exchange_every_batch=False)
    for phase, more in (("forward", weights), ("backward", weights), ("update", 0)):
        assert whole.phases[phase] - plain.phases[phase] == more
    kept = estimate(**sharded, reshard_after_forward=False)
    assert kept.phases["forward"] > plain.phases["forward"]
    assert kept.phases["update"] == plain.phases["update"] and kept.fixed == plain.fixed
    all_weights = sum(p.numel() * 4 for p in small_detector().parameters())
    for backward in (False, True):
        size = gathered_peak(small_detector(), 4, backward=backward, keeps_weights=True)
        assert all_weights < size < 4 * all_weights
    # Half of the network's weights alone: heads are gathered in float32.
    narrow = estimate(**sharded, reshard_after_forward=False, param_dtype=torch.bfloat16)
    assert kept.phases["forward"] > narrow.phases["forward"]


@pytest.mark.usefixtures("traced")
def test_narrow_messages_carry_gradients_in_less_memory() -> None:
    sharded = {"strategy": "fsdp", "world_size": 4}
    wide, narrow = estimate(**sharded), estimate(**sharded, reduce_dtype=torch.bfloat16)
    assert narrow.phases["backward"] < wide.phases["backward"]
    assert narrow.phases["forward"] == wide.phases["forward"]


def test_autocast_copies_weights_that_are_gathered_in_float32() -> None:
    batch = Batch((128, 128), dtype=torch.bfloat16)

    def copies(param_dtype: torch.dtype) -> int:
        sharded = Setting(batch, strategy="fsdp", world_size=2, param_dtype=param_dtype)
        return estimate_memory(small_detector(), sharded).kept.get(WEIGHT_COPIES, 0)

    assert copies(torch.float32) > 0 and copies(torch.bfloat16) == 0


@pytest.mark.parametrize(
    ("overrides", "question", "expected"),
    [
        ([], {"world_size": 2}, ("ddp", False, torch.float32, torch.bfloat16)),
        (["enabled=True"], {}, ("single", False, torch.bfloat16, torch.bfloat16)),
        (
            ["enabled=True", "cpu_offload=True"],
            {"world_size": 2},
            ("fsdp", True, torch.bfloat16, torch.bfloat16),
        ),
        (
            ["enabled=True", "cpu_offload=True", "param_dtype=fp32"],
            {"world_size": 2, "cpu_offload": False},
            ("fsdp", False, torch.float32, torch.float32),
        ),
        (["enabled=True"], {"strategy": "ddp"}, ("ddp", False, torch.float32, torch.bfloat16)),
        (
            ["enabled=True"],
            {"world_size": 2, "precision": "fp32"},
            ("fsdp", False, torch.float32, None),
        ),
    ],
)
def test_sharding_is_that_of_the_configuration(
    overrides: list[str],
    question: dict[str, Any],
    expected: tuple[Any, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(configs, "estimate_memory", lambda *_: None)
    amp = ["train.amp.enabled=False", "train.fsdp.reshard_after_forward=False"]
    changed = [f"train.fsdp.{override}" for override in overrides]
    setting, _ = estimate_config(CONFIG, Question(**question), [*amp, *changed])
    found = (setting.strategy, setting.cpu_offload, setting.batch.dtype, setting.param_dtype)
    assert found == expected
    assert (setting.reshard_after_forward, setting.exchange_every_batch) == (False, True)


def test_sharding_that_training_refuses_is_refused() -> None:
    with pytest.raises(ValueError, match="param_dtype must be one of"):
        estimate_config(CONFIG, Question(strategy="fsdp"), ["train.fsdp.param_dtype=fp16"])


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


def test_configurations_say_what_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configs, "estimate_memory", lambda model, *_: model)
    overrides = ["train.activation_checkpointing=selective", "train.ema.enabled=True"]
    for options, mode in ((overrides, "selective"), ([], False)):
        setting, model = estimate_config(CONFIG, Question(batch_size=1), options)
        assert setting.batch == Batch((256, 256), 1, torch.bfloat16)
        assert setting.has_average == bool(options)
        assert find_network(model).use_act_checkpoint == mode


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
