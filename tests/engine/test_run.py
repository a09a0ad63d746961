"""Training and evaluation from beginning to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.utils import comm

from piip_d2.engine import evaluate_checkpoint, set_up_run
from piip_d2.engine.checkpointer import CheckpointReadError
from tests.engine.runs import metric_lines, run_toy, toy_config
from tests.engine.toys import ToyEvaluator


def _final(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / "model_final.pth", weights_only=True)
    return loaded


def _evaluate(folder: Path, *overrides: str) -> dict[str, Any]:
    cfg = toy_config(folder, *overrides)
    return evaluate_checkpoint(cfg, set_up_run(cfg))


def test_equal_seeds_give_equal_runs(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        run_toy(tmp_path / name, f"train.seed={seed}")
    one, two, other = (metric_lines(tmp_path / name) for name in ("one", "two", "other"))
    assert json.dumps(one) == json.dumps(two)
    assert one[0]["total_loss"] != other[0]["total_loss"]


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_mixed_precision_with_everything_else(tmp_path: Path, dtype: str) -> None:
    results = run_toy(
        tmp_path,
        "train.amp.enabled=True",
        f"train.amp.dtype={dtype}",
        "train.accumulate=2",
        "train.clip_grad.enabled=True",
        "train.ema.enabled=True",
        "train.activation_checkpointing=True",
        "train.auto_scale_lr.enabled=True",
    )
    assert 0 < results["bbox"]["AP"] < 2
    assert ("scale" in _final(tmp_path)["trainer"]["grad_scaler"]) == (dtype == "fp16")


def test_checkpoint_says_what_it_is(tmp_path: Path) -> None:
    run_toy(tmp_path)
    metadata = _final(tmp_path)["metadata"]
    assert metadata["channel_order"] == "RGB"
    assert metadata["pixel_mean"] == [0.5, 0.5, 0.5]
    assert metadata["config"] == (tmp_path / "config.yaml").read_text()


def test_differing_metadata_is_told(tmp_path: Path) -> None:
    run_toy(tmp_path)
    path = tmp_path / "model_final.pth"
    content = _final(tmp_path)
    content["metadata"]["channel_order"] = "BGR"
    torch.save(content, path)
    _evaluate(tmp_path / "evaluation", f"train.init_checkpoint={path}")
    log = (tmp_path / "evaluation" / "log.txt").read_text()
    assert "Mind that the checkpoint was made with channel order BGR, this run has RGB." in log


def test_evaluation_repeats_that_of_the_training(tmp_path: Path) -> None:
    results = run_toy(tmp_path, "train.ema.enabled=True", "train.ema.evaluate=both")
    path = f"train.init_checkpoint={tmp_path}/model_final.pth"
    folder = tmp_path / "evaluation"
    average = results["bbox"]["AP"]
    own = results["model"]["bbox"]["AP"]
    assert average != own
    assert _evaluate(folder, path)["bbox"]["AP"] == average
    assert _evaluate(folder, path, "train.ema.evaluate=model")["bbox"]["AP"] == own
    both = _evaluate(folder, path, "train.ema.evaluate=both")
    assert (both["bbox"]["AP"], both["model"]["bbox"]["AP"]) == (average, own)
    assert json.loads((folder / "results.json").read_text())["bbox"]["AP"] == average


def test_best_weights_evaluate_to_the_best_value(tmp_path: Path) -> None:
    run_toy(tmp_path, "train.eval_period=3", "train.ema.enabled=True")
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)["best"]
    path = f"train.init_checkpoint={tmp_path}/model_best.pth"
    assert _evaluate(tmp_path / "evaluation", path)["bbox"]["AP"] == best["value"]


def test_evaluating_random_weights_is_told(tmp_path: Path) -> None:
    _evaluate(tmp_path, "train.init_checkpoint=")
    assert "random weights are evaluated" in (tmp_path / "log.txt").read_text()


def test_weights_to_evaluate_have_to_be_named(tmp_path: Path) -> None:
    run_toy(tmp_path)
    message = "there are no weights, as .* give some, such as train.init_checkpoint="
    for folder in (tmp_path, tmp_path / "evaluation"):
        with pytest.raises(ValueError, match=f"{message}{tmp_path}/model_best.pth. Random weigh"):
            _evaluate(folder)
    with pytest.raises(ValueError, match="piip://stem.pth is what a training starts from, not a"):
        _evaluate(tmp_path / "evaluation", "train.init_checkpoint=piip://stem.pth")
    assert not (tmp_path / "evaluation" / "config.yaml").exists()


def test_evaluator_gets_a_folder_unless_it_has_one(tmp_path: Path) -> None:
    cfg = toy_config(tmp_path, "train.init_checkpoint=")
    evaluate_checkpoint(cfg, set_up_run(cfg))
    assert cfg.dataloader.evaluator.output_dir == f"{tmp_path}/inference"
    elsewhere = "dataloader.evaluator.output_dir=elsewhere"
    cfg = toy_config(tmp_path, "train.init_checkpoint=", elsewhere)
    evaluate_checkpoint(cfg, set_up_run(cfg))
    assert cfg.dataloader.evaluator.output_dir == "elsewhere"


def test_unknown_choice_of_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train.ema.evaluate must be one of .*got 'best'"):
        run_toy(tmp_path, "train.ema.evaluate=best")


def test_starting_from_scratch_is_told_once(tmp_path: Path) -> None:
    run_toy(tmp_path)
    assert (tmp_path / "log.txt").read_text().count("starts from scratch") == 1


def test_starting_from_weights(tmp_path: Path) -> None:
    run_toy(tmp_path / "first", "train.ema.enabled=True")
    path = f"train.init_checkpoint={tmp_path}/first/model_final.pth"
    run_toy(tmp_path / "second", path, "train.max_iter=1", "optimizer.lr=0")
    expected = _final(tmp_path / "first")["ema"]["weights"]["head.weight"]
    assert torch.equal(_final(tmp_path / "second")["model"]["head.weight"], expected)


def test_moving_average_starts_at_the_loaded_weights(tmp_path: Path) -> None:
    run_toy(tmp_path / "first")
    path = f"train.init_checkpoint={tmp_path}/first/model_final.pth"
    run_toy(
        tmp_path / "second", path, "train.max_iter=1", "optimizer.lr=0", "train.ema.enabled=True"
    )
    final = _final(tmp_path / "second")
    assert torch.equal(final["ema"]["weights"]["head.weight"], final["model"]["head.weight"])


def test_resuming_prefers_the_folder_to_the_initial_weights(tmp_path: Path) -> None:
    run_toy(tmp_path, "train.max_iter=8")
    run_toy(tmp_path, "train.init_checkpoint=nowhere.pth", resume=True)
    assert _final(tmp_path)["iteration"] == 11


def test_resuming_nothing_starts_anew(tmp_path: Path) -> None:
    run_toy(tmp_path, resume=True)
    assert "no checkpoint in" in (tmp_path / "log.txt").read_text()
    assert _final(tmp_path)["iteration"] == 11


def test_resuming_what_is_finished_only_evaluates(tmp_path: Path) -> None:
    first = run_toy(tmp_path)
    lines = metric_lines(tmp_path)
    for _ in range(2):
        assert run_toy(tmp_path, resume=True)["bbox"]["AP"] == first["bbox"]["AP"]
        assert json.dumps(metric_lines(tmp_path)) == json.dumps(lines)


def test_run_that_ended_early_is_not_resumed_from_an_earlier_one(tmp_path: Path) -> None:
    run_toy(tmp_path)
    with pytest.raises(FloatingPointError):
        run_toy(tmp_path, "train.seed=1", "model.fail_from=1")
    run_toy(tmp_path, "train.seed=1", resume=True)
    run_toy(tmp_path / "reference", "train.seed=1")
    assert json.dumps(metric_lines(tmp_path)) == json.dumps(metric_lines(tmp_path / "reference"))


def test_best_weights_of_an_earlier_run_are_not_trusted(tmp_path: Path) -> None:
    ToyEvaluator.scripted = [90.0, 10.0]
    run_toy(tmp_path)
    with pytest.raises(FloatingPointError):
        run_toy(tmp_path, "model.fail_from=26")
    run_toy(tmp_path, resume=True)
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)["best"]
    assert best["value"] == 10.0


def test_starting_from_the_earlier_run_in_the_folder(tmp_path: Path) -> None:
    run_toy(tmp_path)
    expected = _final(tmp_path)["model"]["head.weight"]
    path = f"train.init_checkpoint={tmp_path}/model_final.pth"
    run_toy(tmp_path, path, "train.max_iter=1", "optimizer.lr=0")
    assert torch.equal(_final(tmp_path)["model"]["head.weight"], expected)


def test_folder_that_not_all_machines_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_toy(tmp_path, "train.max_iter=8")
    gather = comm.all_gather

    def with_another_machine(own: object) -> list[object]:
        # It sees no checkpoint and would start at 0.
        return [*gather(own), 0] if own == 8 else gather(own)

    monkeypatch.setattr(comm, "all_gather", with_another_machine)
    with pytest.raises(
        ValueError, match=r"start at different iterations \(\[8, 0\]\): .* must hold"
    ):
        run_toy(tmp_path, resume=True)


def test_missing_initial_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointReadError, match="nowhere.pth does not exist"):
        run_toy(tmp_path, "train.init_checkpoint=nowhere.pth")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_iter=0", "train.max_iter must be at least 1 and a whole number, got 0"),
        ("train.max_iter=null", "train.max_iter must be at least 1 .*, got None"),
        ("train.accumulate=1.5", r"train.accumulate must be at least 1 .*, got 1\.5"),
        ("train.log_period=0", "train.log_period must be at least 1 .*, got 0"),
        ("train.eval_period=-1", "train.eval_period must be at least 0 .*, got -1"),
    ],
)
def test_senseless_numbers(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_toy(tmp_path, override)


def test_senseless_augmentation_is_told_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train.tta.scales must be factors .*, got \['a', 'b'\]"):
        run_toy(tmp_path, "train.tta.scales=[a,b]")
    assert not (tmp_path / "metrics.json").exists()


def test_failure_says_where_the_last_checkpoint_is(tmp_path: Path) -> None:
    # Iteration 6 reads the samples 24 to 27.
    with pytest.raises(FloatingPointError, match="loss_box.*nan.*iteration 6"):
        run_toy(tmp_path, "model.fail_from=26")
    log = (tmp_path / "log.txt").read_text()
    assert "Training failed at iteration 6." in log
    assert "model_0000003.pth; --resume goes on from there" in log


def test_failure_before_the_first_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError):
        run_toy(tmp_path, "model.fail_from=1")
    assert "No checkpoint has been saved" in (tmp_path / "log.txt").read_text()
