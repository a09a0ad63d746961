"""Damaged files of sharded checkpoints are found before anything is loaded from them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

from piip_d2.engine import shard_files
from piip_d2.engine.checkpointer import CheckpointReadError
from piip_d2.engine.shard_files import INDEX, check_shares, read_in_all, read_index
from tests.engine.runs import run_toy, run_toy_in_two_processes

_SHARDED = ("train.fsdp.enabled=True", "train.fsdp.param_dtype=fp32", "train.max_iter=4")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process has written, with the checkpoints model_final and one before."""
    folder = tmp_path_factory.mktemp("finished")
    run_toy(folder, *_SHARDED, "train.checkpointer.period=2")
    return folder


@pytest.fixture
def run_folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of it without its log."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("log.txt*"))
    return folder


def _only_share(checkpoint: Path) -> Path:
    (share,) = checkpoint.glob("*.distcp")
    return share


def _flip_a_value(share: Path) -> None:
    contents = bytearray(share.read_bytes())
    # The values of a tensor begin behind the name of their record, on a multiple of 64 bytes.
    contents[contents.index(b"/data/0") + 128] ^= 1
    share.write_bytes(contents)


def _truncate(share: Path) -> None:
    share.write_bytes(share.read_bytes()[: share.stat().st_size // 2])


def _cut_off_the_end(share: Path) -> None:
    share.write_bytes(share.read_bytes()[:-1])


def _assert_weights(folder: Path, expected: Path) -> None:
    ours, theirs = (
        torch.load(path / "model_final.pth", weights_only=True)["model"]
        for path in (folder, expected)
    )
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_flip_a_value, "is damaged: a check sum in it is wrong"),
        (_truncate, "cannot be read: it is missing, truncated or damaged"),
        (_cut_off_the_end, "cannot be read: it is missing, truncated or damaged"),
        (Path.unlink, "cannot be read: it is missing, truncated or damaged"),
    ],
)
def test_damaged_shares_are_passed_over(
    damage: Callable[[Path], None], reason: str, run_folder: Path, finished: Path
) -> None:
    share = _only_share(run_folder / "model_final")
    damage(share)
    run_toy(run_folder, *_SHARDED, resume=True)
    log = (run_folder / "log.txt").read_text()
    assert f"{share} {reason}" in log and "Trying the checkpoint before it" in log
    _assert_weights(run_folder, finished)


def test_damaged_index_is_passed_over(run_folder: Path, finished: Path) -> None:
    index = run_folder / "model_final" / INDEX
    # One letter of a name, which would be taken for a weight of another model.
    index.write_bytes(index.read_bytes().replace(b"body.0.weight", b"cody.0.weight"))
    run_toy(run_folder, *_SHARDED, resume=True)
    assert f"{index} is damaged: its check sum is wrong" in (run_folder / "log.txt").read_text()
    _assert_weights(run_folder, finished)


def test_index_without_sum(run_folder: Path) -> None:
    # As earlier versions have written it.
    rest = torch.load(run_folder / "model_final" / "rest.pth", weights_only=True)
    del rest["index_sum"]
    torch.save(rest, run_folder / "model_final" / "rest.pth")
    run_toy(run_folder, *_SHARDED, resume=True)
    assert "Trying the checkpoint before it" not in (run_folder / "log.txt").read_text()


def _with_another_process(monkeypatch: pytest.MonkeyPatch, *says: Any) -> list[Any]:
    """Lets another process answer at the first exchanges; returns what it gets to hear."""
    heard: list[Any] = []

    def all_gather(own: Any) -> list[Any]:
        heard.append(own)
        return [own, says[len(heard) - 1]] if len(heard) <= len(says) else [own]

    others = SimpleNamespace(all_gather=all_gather, get_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr(shard_files, "comm", others)
    return heard


@pytest.mark.parametrize("says", [("a stale view",), (None, "a stale view")])
def test_what_another_process_cannot_read_is_passed_over(
    says: tuple[str | None, ...],
    run_folder: Path,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _with_another_process(monkeypatch, *says)
    run_toy(run_folder, *_SHARDED, resume=True)
    assert "a stale view. Trying the checkpoint before it" in (run_folder / "log.txt").read_text()
    _assert_weights(run_folder, finished)


@pytest.mark.parametrize("error", [CheckpointReadError, OSError])
def test_other_processes_hear_of_a_failure(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = _with_another_process(monkeypatch, None)

    def read() -> None:
        raise error("a stale view")

    with pytest.raises(CheckpointReadError, match="a stale view"):
        read_in_all(read)
    assert heard == ["a stale view"]


def test_shares_without_sums(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        dcp.save({"weight": torch.arange(64.0)}, checkpoint_id=tmp_path, no_dist=True)
    finally:
        torch.serialization.set_crc32_options(True)
    index = read_index(tmp_path, None)
    check_shares(tmp_path, index)
    _truncate(_only_share(tmp_path))
    with pytest.raises(CheckpointReadError, match="missing, truncated or damaged"):
        check_shares(tmp_path, index)


def test_no_checkpoint_is_left(run_folder: Path) -> None:
    _truncate(_only_share(run_folder / "model_final"))
    _truncate(run_folder / "model_0000003" / INDEX)
    shutil.rmtree(run_folder / "model_0000001")
    with pytest.raises(CheckpointReadError, match="none of the 2 checkpoints in .* can be read"):
        run_toy(run_folder, *_SHARDED, resume=True)


def test_two_processes_pass_over_what_one_of_them_finds(tmp_path: Path) -> None:
    run_toy_in_two_processes(tmp_path, *_SHARDED, "train.checkpointer.period=2")
    shutil.copytree(tmp_path, tmp_path / "before")
    _flip_a_value(tmp_path / "model_final" / "__1_0.distcp")
    run_toy_in_two_processes(tmp_path, *_SHARDED, resume=True)
    for name in ("log.txt", "log.txt.rank1"):
        assert "__1_0.distcp is damaged" in (tmp_path / name).read_text()
    _assert_weights(tmp_path, tmp_path / "before")
