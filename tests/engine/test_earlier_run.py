"""Making room in a folder that has been used."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest

from piip_d2.engine import earlier_run
from piip_d2.engine.earlier_run import put_earlier_run_aside, undo_interrupted_move

_OF_A_RUN = (
    "config.yaml",
    "curves.png",
    "evaluation",
    "events.out.tfevents.17.host.8.0",
    "inference",
    "last_checkpoint",
    "metrics.json",
    "metrics_2.json",
    "model_0000003.pth",
    "model_best.pth",
    "model_final.pth",
    "results.json",
)


def _fill(folder: Path, *names: str) -> None:
    for name in names:
        if "." in name or name == "last_checkpoint":
            (folder / name).write_text(name)
        else:
            (folder / name).mkdir()
            (folder / name / "content").write_text(name)


def _contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in files}


@pytest.fixture
def warnings(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("piip_d2"), "propagate", True)
    return caplog


def test_nothing_to_move(tmp_path: Path) -> None:
    _fill(tmp_path, "log.txt", "inference", "evaluation", "model_pretrained.pth", "other_run")
    before = _contents(tmp_path)
    assert put_earlier_run_aside(tmp_path, {"log.txt": 3}) is None
    assert _contents(tmp_path) == before


def test_all_that_a_run_wrote_is_moved(tmp_path: Path, warnings: pytest.LogCaptureFixture) -> None:
    _fill(tmp_path, *_OF_A_RUN)
    written = _contents(tmp_path)
    _fill(tmp_path, "model_pretrained.pth", "train.json", "other_run")
    aside = put_earlier_run_aside(tmp_path)
    assert aside == tmp_path / "earlier_run"
    assert _contents(aside) == written
    rest = {"earlier_run", "model_pretrained.pth", "train.json", "other_run"}
    assert {file.name for file in tmp_path.iterdir()} == rest
    way_back = f"train_net.py --resume --config-file {aside}/config.yaml train.output_dir={aside}"
    assert warnings.text.rstrip().endswith(f"To go on with that one: {way_back}")


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "model_final"])
def test_little_of_a_run_is_moved_too(
    tmp_path: Path, warnings: pytest.LogCaptureFixture, name: str
) -> None:
    _fill(tmp_path, name)
    assert put_earlier_run_aside(tmp_path) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["earlier_run"]
    assert "To go on" not in warnings.text


def test_each_earlier_run_gets_its_folder(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "model_best.pth").write_text(str(number))
        put_earlier_run_aside(tmp_path)
    kept = [(tmp_path / f"earlier_run{end}" / "model_best.pth") for end in ("", "_2", "_3")]
    assert [file.read_text() for file in kept] == ["0", "1", "2"]


def test_logs_part_where_the_new_run_begins(tmp_path: Path) -> None:
    _fill(tmp_path, "config.yaml")
    (tmp_path / "log.txt").write_text("old\nnew\n")
    (tmp_path / "log.txt.rank1").write_text("new\n")
    # That run had more processes.
    (tmp_path / "log.txt.rank2").write_text("old\n")
    elsewhere = {"log.txt.rank8": 7}
    aside = put_earlier_run_aside(tmp_path, {"log.txt": 4, "log.txt.rank1": 0, **elsewhere})
    assert aside
    earlier = {"config.yaml": "config.yaml", "log.txt": "old\n", "log.txt.rank2": "old\n"}
    assert _contents(aside) == earlier
    assert (tmp_path / "log.txt").read_text() == "new\n"
    assert (tmp_path / "log.txt.rank1").read_text() == "new\n"
    assert not (tmp_path / "log.txt.rank2").exists()


def _break_at(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    rename = Path.rename

    def rename_unless_broken(self: Path, target: Path) -> Path:
        if self.name == name and "unfinished" in str(target):
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_unless_broken)


@pytest.mark.parametrize("name", ["last_checkpoint", "model_best.pth", "inference"])
def test_what_cannot_be_moved_leaves_all_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    _fill(tmp_path, *_OF_A_RUN)
    before = _contents(tmp_path)
    path = str(tmp_path / name)
    _break_at(monkeypatch, name, PermissionError(errno.EACCES, "Permission denied", path))
    with pytest.raises(ValueError, match=rf"moved aside \(Permission denied: {path}\); choose an"):
        put_earlier_run_aside(tmp_path)
    assert _contents(tmp_path) == before
    assert not (tmp_path / "earlier_run.unfinished").exists()


def test_interrupted_move_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill(tmp_path, *_OF_A_RUN)
    before = _contents(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        _break_at(patch, "model_best.pth", KeyboardInterrupt())
        put_earlier_run_aside(tmp_path)
    assert (tmp_path / "earlier_run.unfinished" / "last_checkpoint").exists()
    assert (tmp_path / "model_best.pth").exists()
    undo_interrupted_move(tmp_path)
    assert _contents(tmp_path) == before
    undo_interrupted_move(tmp_path)
    assert put_earlier_run_aside(tmp_path) == tmp_path / "earlier_run"


def test_undoing_overwrites_nothing(tmp_path: Path) -> None:
    unfinished = tmp_path / "earlier_run.unfinished"
    unfinished.mkdir()
    _fill(unfinished, "config.yaml", "results.json")
    (tmp_path / "config.yaml").write_text("newer")
    undo_interrupted_move(tmp_path)
    assert _contents(tmp_path) == {
        "config.yaml": "newer",
        "results.json": "results.json",
        "earlier_run/config.yaml": "config.yaml",
    }


def test_leftovers_of_a_killed_process_are_kept(tmp_path: Path) -> None:
    unfinished = tmp_path / "earlier_run.unfinished"
    unfinished.mkdir()
    (unfinished / "model_best.pth").write_text("older")
    (tmp_path / "model_best.pth").write_text("newer")
    put_earlier_run_aside(tmp_path)
    assert _contents(tmp_path) == {
        "earlier_run/model_best.pth": "older",
        "earlier_run_2/model_best.pth": "newer",
    }


def test_second_start_at_once_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill(tmp_path, *_OF_A_RUN)
    begun = []

    def begin_elsewhere(folder: Path) -> None:
        (folder / "earlier_run.unfinished").mkdir()
        (folder / "results.json").rename(folder / "earlier_run.unfinished" / "results.json")
        begun.append(_contents(folder))

    monkeypatch.setattr(earlier_run, "undo_interrupted_move", begin_elsewhere)
    with pytest.raises(ValueError, match="just being moved aside by another training; choose an"):
        put_earlier_run_aside(tmp_path)
    assert begun == [_contents(tmp_path)]


def test_folder_that_allows_no_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill(tmp_path, *_OF_A_RUN)

    def refuse(self: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(
        ValueError, match=r"moved aside \(Permission denied: .*unfinished\); choose"
    ):
        put_earlier_run_aside(tmp_path)


def _fill_with_log(folder: Path) -> None:
    _fill(folder, "config.yaml")
    (folder / "log.txt").write_text("old\nnew\n")


def test_log_that_cannot_be_moved_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: pytest.LogCaptureFixture
) -> None:
    _fill_with_log(tmp_path)
    rename = Path.rename

    def rename_no_log(self: Path, target: Path) -> Path:
        if self.name == "log.txt":
            raise OSError(errno.EBUSY, "Device or resource busy", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_no_log)
    assert put_earlier_run_aside(tmp_path, {"log.txt": 4}) == tmp_path / "earlier_run"
    assert (tmp_path / "log.txt").read_text() == "old\nnew\n"
    assert "could not be parted" in warnings.text and "resource busy" in warnings.text


def test_log_that_was_begun_anew_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill_with_log(tmp_path)
    rename = Path.rename

    def rename_and_write(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        if self.name == "log.txt":
            self.write_text("newest\n")
        return moved

    monkeypatch.setattr(Path, "rename", rename_and_write)
    put_earlier_run_aside(tmp_path, {"log.txt": 4})
    assert sorted((tmp_path / "log.txt").read_text().split()) == ["new", "newest"]
    assert (tmp_path / "earlier_run" / "log.txt").read_text() == "old\n"
