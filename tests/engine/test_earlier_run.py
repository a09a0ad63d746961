"""Making room in a folder that has been used."""

from __future__ import annotations

from pathlib import Path

from piip_d2.engine.earlier_run import put_earlier_run_aside


def _fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text(name)


def test_nothing_to_move(tmp_path: Path) -> None:
    _fill(tmp_path, "config.yaml", "results.json", "model_pretrained.pth")
    assert put_earlier_run_aside(tmp_path) is None
    assert len(list(tmp_path.iterdir())) == 3


def test_only_what_a_run_saved_is_moved(tmp_path: Path) -> None:
    saved = ["last_checkpoint", "model_0000003.pth", "model_best.pth", "model_final.pth"]
    _fill(tmp_path, *saved, "results.json", "model_pretrained.pth", "metrics.json")
    aside = put_earlier_run_aside(tmp_path)
    assert aside == tmp_path / "earlier_run"
    assert {file.name: file.read_text() for file in aside.iterdir()} == {
        name: name for name in [*saved, "results.json"]
    }
    assert {file.name for file in tmp_path.iterdir()} == {
        "earlier_run",
        "model_pretrained.pth",
        "metrics.json",
    }


def test_each_earlier_run_gets_its_folder(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "model_best.pth").write_text(str(number))
        put_earlier_run_aside(tmp_path)
    kept = [(tmp_path / f"earlier_run{end}" / "model_best.pth") for end in ("", "_2", "_3")]
    assert [file.read_text() for file in kept] == ["0", "1", "2"]
