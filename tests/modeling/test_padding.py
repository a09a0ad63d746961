"""The size that images are padded to, against Detectron2's padding."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from detectron2.structures import ImageList

from piip_d2.modeling.padding import padded_size


@pytest.mark.parametrize(
    "constraints",
    [
        {},
        {"size_divisibility": 32},
        {"square_size": 100},
        {"size_divisibility": 7, "square_size": 90},
    ],
)
@pytest.mark.parametrize("image_size", [(64, 64), (65, 33), (1, 90)])
def test_is_what_detectron2_pads_to(
    constraints: dict[str, int], image_size: tuple[int, int]
) -> None:
    backbone = SimpleNamespace(size_divisibility=16, padding_constraints=constraints)
    padded = ImageList.from_tensors(
        [torch.zeros(3, *image_size)], backbone.size_divisibility, padding_constraints=constraints
    )
    assert padded_size(image_size, backbone) == tuple(padded.tensor.shape[-2:])


def test_without_constraints() -> None:
    assert padded_size((33, 64), SimpleNamespace(size_divisibility=32)) == (64, 64)
    assert padded_size((33, 64), SimpleNamespace(size_divisibility=0)) == (33, 64)
    assert padded_size((33, 64), None) == (33, 64)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="must be a height and a width in pixels"):
        padded_size((0, 4), None)
    backbone = SimpleNamespace(padding_constraints={"square_size": 64})
    with pytest.raises(ValueError, match=r"squares of 64 pixels .* \(32, 65\) does not fit"):
        padded_size((32, 65), backbone)
