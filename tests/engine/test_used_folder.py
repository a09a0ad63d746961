"""Runs in a folder that another run has used lose nothing of it, however they start."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from piip_d2.engine import Evaluation, evaluate_checkpoint, load_config, set_up_run, train
from piip_d2.engine.build import build_model
from piip_d2.engine.earlier_run import put_earlier_run_aside
from tests.engine.runs import (
    metric_lines,
    run_toy,
    run_toy_in_two_processes,
    start_toy,
    toy_config,
    undone_process_state,
)

_EARLIER = ("train.seed=7", "train.max_iter=8", "train.tensorboard=True")
_MESSAGE = "the messages of the earlier run\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run has written, the start of its log replaced by one line."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with undone_process_state():
        run_toy(folder, *_EARLIER)
    (folder / "log.txt").write_text(_MESSAGE)
    (folder / "inference").mkdir()
    (folder / "inference" / "predictions.json").write_text("[]")
    return folder


@pytest.fixture
def used(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    folder = tmp_path / "used"
    shutil.copytree(finished, folder)
    return folder


def _contents(folder: Path) -> dict[str, bytes]:
    """All files by name, those of earlier runs left out."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {str(path.relative_to(folder)): path for path in files}
    return {
        name: path.read_bytes() for name, path in names.items() if not name.startswith("earlier_")
    }


def _seed(folder: Path) -> int:
    return int(load_config(str(folder / "config.yaml")).train.seed)


def test_new_run_moves_all_of_the_earlier_one(used: Path) -> None:
    before = _contents(used)
    assert {"config.yaml", "results.json", "last_checkpoint", "model_best.pth"} < set(before)
    run_toy(used, "train.seed=1")
    aside = used / "earlier_run"
    assert _contents(aside) == before
    assert (_seed(aside), _seed(used)) == (7, 1)
    assert not list(used.glob("events*")) and not (used / "inference").exists()
    log = (used / "log.txt").read_text()
    assert "Process 1 of 1 on cpu; seed 1" in log and "Training from iteration 0 to 12" in log
    assert f"{used} held an earlier run, which is now in {aside}" in log
    assert [line["iteration"] for line in metric_lines(used)][:12] == list(range(12))
    run_toy(used, "train.seed=2")
    assert (_seed(aside), _seed(used / "earlier_run_2"), _seed(used)) == (7, 1, 2)
    assert (used / "earlier_run_2" / "log.txt").read_text() == log


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_iter=0", "train.max_iter must be at least 1"),
        ("train.init_checkpoint=nowhere.pth", "nowhere.pth does not exist"),
        ("train.ema.evaluate=best", "train.ema.evaluate must be one of"),
        ("train.checkpointer.period=0", "train.checkpointer.period must be at least 1"),
        ("train.early_stopping.enabled=True", "needs train.eval_period > 0"),
    ],
)
@pytest.mark.parametrize("resume", [False, True])
def test_run_that_does_not_start_changes_nothing(
    used: Path, override: str, message: str, resume: bool
) -> None:
    before = _contents(used)
    if resume and "init_checkpoint" in override:
        override, message = "model.width=4", "the checkpoint is of another model"
    with pytest.raises(ValueError, match=message):
        run_toy(used, "train.seed=1", override, resume=resume)
    after = _contents(used)
    assert after.pop("log.txt").startswith(before.pop("log.txt"))
    assert after == before
    assert not list(used.glob("earlier*"))
    # So the run can still go on.
    run_toy(used, *_EARLIER, "train.max_iter=9", resume=True)
    assert len([line for line in metric_lines(used) if "total_loss" in line]) == 9


def test_resumed_run_goes_on_where_it_was(used: Path) -> None:
    run_toy(used, *_EARLIER, "train.max_iter=10", resume=True)
    assert not list(used.glob("earlier*"))
    assert load_config(str(used / "config.yaml")).train.max_iter == 10
    log = (used / "log.txt").read_text()
    assert log.startswith(_MESSAGE) and "Training from iteration 8 to 10" in log


@pytest.mark.parametrize("moves_back", [True, False])
def test_earlier_run_can_go_on(
    finished: Path, used: Path, tmp_path: Path, moves_back: bool
) -> None:
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(finished, undisturbed)
    run_toy(undisturbed, *_EARLIER, "train.max_iter=12", resume=True)
    run_toy(used, "train.seed=1")
    folder = used / "earlier_run"
    if moves_back:
        folder = folder.rename(tmp_path / "back")
    cfg = load_config(str(folder / "config.yaml"), [f"train.output_dir={folder}"])
    cfg.train.max_iter = 12
    train(cfg, set_up_run(cfg), resume=True)
    assert json.dumps(metric_lines(folder)) == json.dumps(metric_lines(undisturbed))
    assert _seed(used) == 1


def test_evaluation_alone_leaves_the_run(used: Path) -> None:
    before = _contents(used)
    weights = f"train.init_checkpoint={used}/model_final.pth"
    # As train_net.py sets it.
    folder = used / "evaluation"
    cfg = toy_config(folder, weights)
    evaluate_checkpoint(cfg, set_up_run(cfg))
    evaluation = {name: text for name, text in _contents(folder).items() if name != "log.txt"}
    assert set(evaluation) == {"config.yaml", "results.json"}
    broken = toy_config(folder, weights, "model.width=4")
    with pytest.raises(ValueError, match="leaves 5 of 6 parameters untrained"):
        evaluate_checkpoint(broken, set_up_run(broken))
    assert _contents(folder).items() >= evaluation.items()
    assert {n: c for n, c in _contents(used).items() if not n.startswith("evalu")} == before
    # It describes the weights that the next run moves.
    run_toy(used, "train.max_iter=1")
    assert (used / "earlier_run" / "evaluation" / "results.json").exists()


def test_evaluation_that_a_new_run_moves_goes_on(used: Path) -> None:
    folder = used / "evaluation"
    cfg = toy_config(folder, f"train.init_checkpoint={used}/model_final.pth")
    evaluation = Evaluation(cfg)
    set_up_run(cfg)
    before = (folder / "log.txt").read_bytes()
    put_earlier_run_aside(used)
    assert evaluation(build_model(cfg))
    assert (folder / "results.json").exists()
    assert "Results:" in (folder / "log.txt").read_text()
    assert (used / "earlier_run" / "evaluation" / "log.txt").read_bytes() == before


def test_two_processes_part_their_logs(tmp_path: Path) -> None:
    run_toy_in_two_processes(tmp_path, *_EARLIER)
    names = ("log.txt", "log.txt.rank1")
    before = {name: (tmp_path / name).read_bytes() for name in names}
    run_toy_in_two_processes(tmp_path, "train.seed=1", "train.max_iter=2")
    aside = tmp_path / "earlier_run"
    assert {name: (aside / name).read_bytes() for name in names} == before
    for rank, name in enumerate(names, start=1):
        text = (tmp_path / name).read_text()
        assert text.count(f"Process {rank} of 2 on cpu; seed 1") == 1
        assert "seed 7" not in text
    assert (_seed(aside), _seed(tmp_path)) == (7, 1)


@pytest.mark.parametrize("resume", [True, False])
def test_run_that_was_killed_while_another_moved_it(used: Path, resume: bool) -> None:
    before = _contents(used)
    unfinished = used / "earlier_run.unfinished"
    unfinished.mkdir()
    for name in ("last_checkpoint", "model_best.pth"):
        (used / name).rename(unfinished / name)
    run_toy(used, *_EARLIER, "train.max_iter=10", resume=resume)
    assert not unfinished.exists()
    if resume:
        assert "Training from iteration 8 to 10" in (used / "log.txt").read_text()
        assert not list(used.glob("earlier*"))
    else:
        assert _contents(used / "earlier_run") == before


def test_run_that_was_killed_before_its_first_checkpoint(tmp_path: Path) -> None:
    process = start_toy(
        tmp_path, "train.seed=7", "train.checkpointer.period=100000", "train.max_iter=100000"
    )
    while not (tmp_path / "metrics.json").exists():
        assert process.is_alive(), (tmp_path / "screen.txt").read_text()
        process.join(0.05)
    process.kill()
    process.join()
    run_toy(tmp_path, "train.seed=1", resume=True)
    assert (_seed(tmp_path / "earlier_run"), _seed(tmp_path)) == (7, 1)
    lines = (tmp_path / "metrics.json").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines][0] == 0
