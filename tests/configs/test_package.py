"""Configurations as a package: by name, from foreign folders, and beside any Detectron2."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from detectron2.config import LazyConfig

from piip_d2.configs import find_config_file, get_config, get_config_file, list_configs

NAME = "mask_rcnn/piip_tsb_1120_896_448_1x"


def test_config_by_name_is_the_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert get_config(NAME) == LazyConfig.load(get_config_file(f"{NAME}.py"))


def test_every_call_loads_anew() -> None:
    get_config(NAME).train.max_iter = 1
    assert get_config(NAME).train.max_iter > 1


def test_listed_names_are_experiments_only() -> None:
    names = list_configs()
    assert NAME in names
    folders = {"ablations", "cascade_rcnn", "dino", "lvis", "mask_rcnn", "quick"}
    assert {name.split("/")[0] for name in names} == folders


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("mask_rcnn/piip_tsb_1120_896_448", NAME),
        ("mask_rcnn/piip_tsb_1120_896_448_1y.py", NAME),
        ("piip_tsb_1120_896_448_1x", NAME),
        ("piip_tsb_1120_896_448_1x", "dino/piip_tsb_1120_896_448_1x"),
        ("../configs/mask_rcnn/piip_tsb_1120_896_448_1x", NAME),
        ("faster_rcnn_trees", "quick/faster_rcnn_trees"),
        ("quick/mask_rcnn", "quick/mask_rcnn_scenes"),
        ("maskrcnn/piip_tsb_1120_896_448", NAME),
    ],
)
def test_unknown_name_lists_those_that_look_alike(name: str, near: str) -> None:
    known = f"did you mean .*{near}[ ?].*list_configs\\(\\) lists all {len(list_configs())}"
    with pytest.raises(ValueError, match=f"^no configuration named '{name}'; {known}"):
        get_config(name)
    with pytest.raises(
        FileNotFoundError, match=f"^the config file {name} does not exist, .* named .*{known}"
    ):
        find_config_file(name)


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("configs/quick/nope.py", "quick/cascade_rcnn_scenes, quick/dino_scenes, .*trees, "),
        ("mask_rcnn/nothing", r"mask_rcnn/convnext_b_1024_1x, .*, \.\.\.; piip_d2"),
    ],
)
def test_experiments_of_the_same_folder_are_named(name: str, beside: str) -> None:
    with pytest.raises(ValueError, match=f"no configuration named '{name}'; there are {beside}"):
        get_config(name)


@pytest.mark.parametrize("name", ["common/train", "zzz", ""])
def test_what_looks_like_nothing(name: str) -> None:
    with pytest.raises(ValueError, match=rf"no configuration named '{name}'; .*lists all"):
        get_config(name)


def test_file_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config_file(NAME) == get_config_file(NAME)
    Path(NAME).parent.mkdir()
    Path(NAME).touch()
    assert find_config_file(NAME) == NAME


def test_own_config_elsewhere_can_build_on_these(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from piip_d2.configs import get_config\n"
        "from piip_d2.configs.common.models.branches import tsb\n"
        f"model = get_config({NAME!r}).model\n"
        "model.backbone.bottom_up.branches = tsb([640, 512, 256])\n"
    )
    branches = LazyConfig.load(str(file)).model.backbone.bottom_up.branches
    assert [branch.img_size for branch in branches] == [640, 512, 256]


class TestStock:
    """Detectron2's own configurations, wherever its installation keeps them."""

    stock = importlib.import_module("piip_d2.configs.common.stock")

    @pytest.mark.parametrize("folder", ["detectron2/model_zoo/configs", "configs"])
    def test_found_in_an_installation_and_in_a_checkout(
        self, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "some.py").write_text("answer = dict(value=42)\n")
        monkeypatch.setattr(self.stock.resources, "files", lambda _: tmp_path / "detectron2")
        assert self.stock.load_stock("some.py").answer.value == 42

    def test_missing_file_names_the_folders(self) -> None:
        with pytest.raises(FileNotFoundError, match=r"without its configuration 'none.py'; looked"):
            self.stock.load_stock("none.py")
