"""``train.branch_weights``: when the weights of single networks are loaded, and when not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import LazyCall as L
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from piip_d2.engine import evaluate_checkpoint, set_up_run, train
from piip_d2.engine.starting_weights import check_initial_checkpoint, count_branches
from piip_d2.modeling.backbone import ViTBranch, build_network
from tests.engine.runs import toy_config
from tests.engine.toys import ToyDetector

SIZES: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2, "pretrain_img_size": 32}


class ToyPyramid(ToyDetector):
    """The toy detector, carrying a pyramid that its losses touch."""

    def __init__(self) -> None:
        super().__init__(dropout=0.0)
        self.pyramid = build_network(
            [ViTBranch(img_size=size, **SIZES) for size in (64, 32)],
            num_interactions=2,
            num_heads=2,
        )

    def forward(self, batch: list[dict[str, Any]]) -> Any:
        outputs = super().forward(batch)
        if self.training:
            outputs["loss_pyramid"] = sum(p.square().mean() for p in self.pyramid.parameters())
        return outputs


def _config(folder: Path, *overrides: str) -> DictConfig:
    cfg = toy_config(folder, "train.max_iter=1", "optimizer.lr=0", *overrides)
    cfg.model = L(ToyPyramid)()
    return cfg


def _start(cfg: DictConfig, *, resume: bool = False) -> None:
    train(cfg, set_up_run(cfg), resume=resume)


def _trained(folder: Path) -> dict[str, Tensor]:
    """The weights that a run has left."""
    model: dict[str, Tensor] = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    return model


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, Tensor]:
    """Weights of a single network, which are in vit.pth."""
    state = {
        name: torch.randn(x.shape)
        for name, x in ViTBranch(img_size=32, **SIZES).state_dict().items()
    }
    torch.save({"model": {"cls_token": torch.zeros(1, 1, 32), **state}}, tmp_path / "vit.pth")
    return state


NAME = "blocks.1.mlp.fc1.weight"
FINE, COARSE = (f"pyramid.branches.{number}.{NAME}" for number in (1, 0))


def test_loaded_before_training(weights: dict[str, Tensor], tmp_path: Path) -> None:
    random_folder, folder = tmp_path / "random", tmp_path / "run"
    _start(_config(random_folder))
    _start(_config(folder, f"train.branch_weights=[{tmp_path}/vit.pth,null]"))
    found = _trained(folder)
    assert torch.equal(found[FINE], weights[NAME])
    assert torch.equal(found[COARSE], _trained(random_folder)[COARSE])
    log = (folder / "log.txt").read_text()
    assert "into branch 1 (ViTBranch at 64): 31 weights of a plain vision" in log
    assert "Training starts from scratch but for branches" in log


def test_an_initial_checkpoint_comes_after_them(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"model": {FINE: torch.full((128, 32), 7.0)}}, tmp_path / "part.pth")
    sources = f"train.branch_weights=[{tmp_path}/vit.pth,{tmp_path}/vit.pth]"
    cfg = _config(tmp_path / "run", sources, f"train.init_checkpoint={tmp_path}/part.pth")
    _start(cfg)
    found = _trained(tmp_path / "run")
    assert (found[FINE] == 7.0).all()
    assert torch.equal(found[COARSE], weights[NAME])


def test_not_loaded_when_a_run_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    _start(_config(folder))
    before = _trained(folder)
    # Nobody has these any more, and nobody asks for them.
    gone = "train.branch_weights=[gone.pth,gone.pth]"
    _start(_config(folder, gone, "train.max_iter=2"), resume=True)
    assert torch.equal(_trained(folder)[FINE], before[FINE])


def test_loaded_where_there_is_nothing_to_resume(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    sources = f"train.branch_weights=[null,{tmp_path}/vit.pth]"
    _start(_config(tmp_path / "run", sources), resume=True)
    assert torch.equal(_trained(tmp_path / "run")[COARSE], weights[NAME])


def test_not_loaded_for_an_evaluation(tmp_path: Path) -> None:
    gone = "train.branch_weights=[gone.pth,gone.pth]"
    cfg = _config(tmp_path / "run", gone, "train.init_checkpoint=")
    assert "bbox" in evaluate_checkpoint(cfg, set_up_run(cfg))


class Unbuilt(ToyDetector):
    """Stands for a model that takes minutes to build."""

    def __init__(self, branches: Any = ()) -> None:
        raise AssertionError("built before it was known whether there are weights for it")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.branch_weights=[vit.pth]", r"a list of 2, one for .*got 1: \['vit.pth'\]"),
        ("train.branch_weights=vit.pth", "a list of 2, .*got 'vit.pth'"),
        ("train.branch_weights=[vit.pth,3]", "a list of 2, .*got 2: .*3"),
        ("train.branch_weights=[null,gone.pth]", "the checkpoint gone.pth does not exist"),
        ("train.branch_weights=[null,cut.pth]", "the checkpoint cut.pth cannot be read: it is tr"),
        (
            "train.branch_weights=[null,other.pth]",
            "other.pth cannot be loaded into branch 2: by their names they are of none",
        ),
        ("train.branch_weights=[null,timm://vit_none]", "no weights for the name 'vit_none'"),
        ("train.init_checkpoint=gone.pth", "the checkpoint gone.pth does not exist"),
        ("train.init_checkpoint=cut.pth", "the checkpoint cut.pth cannot be read: it is truncated"),
        ("train.init_checkpoint=empty.pth", "the checkpoint empty.pth has no weights by name"),
    ],
)
def test_mistakes_end_the_run_before_the_model_is_built(
    override: str,
    message: str,
    weights: dict[str, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cut.pth").write_bytes(Path("vit.pth").read_bytes()[:-100])
    torch.save({"conv1.weight": torch.zeros(1)}, "other.pth")
    torch.save({"epoch": 3}, "empty.pth")
    cfg = _config(tmp_path / "run", override)
    cfg.model = L(Unbuilt)(branches=[{}, {}])
    with pytest.raises(ValueError, match=message):
        _start(cfg)
    if "init_checkpoint" in override:
        with pytest.raises(ValueError, match=message):
            evaluate_checkpoint(cfg)


def test_number_of_branches_that_the_config_does_not_tell(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    cfg = _config(tmp_path / "run", f"train.branch_weights=[{tmp_path}/vit.pth]")
    with pytest.raises(ValueError, match="a list of 2, one for each branch, .*got 1"):
        _start(cfg)


def test_branches_of_a_config() -> None:
    pyramid = {"bottom_up": {"branches": [{}, {}, {}]}}
    for model, expected in (
        ({"backbone": pyramid}, 3),
        ({"detectors": [pyramid]}, 3),
        ({"teacher": pyramid, "student": pyramid}, None),
        ({"branches": "of another kind"}, None),
    ):
        assert count_branches(OmegaConf.create(model)) == expected


def test_pickles_are_not_opened_to_look_for_names(tmp_path: Path) -> None:
    file = tmp_path / "weights.pkl"
    file.write_bytes(b"anything")
    check_initial_checkpoint(str(file))


def test_model_without_a_pyramid(weights: dict[str, Tensor], tmp_path: Path) -> None:
    cfg = toy_config(tmp_path / "run", f"train.branch_weights=[{tmp_path}/vit.pth]")
    with pytest.raises(ValueError, match="one PIIP backbone, but a ToyDetector has 0 of them"):
        train(cfg, set_up_run(cfg))
