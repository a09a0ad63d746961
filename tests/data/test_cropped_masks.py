from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances

from piip_d2.data.cropped_masks import CroppedMasks

HEIGHT, WIDTH = 60, 90


@pytest.fixture
def drawn() -> npt.NDArray[np.bool_]:
    """Blobs in the middle, at each border, over all of the image, in two pieces, and nothing."""
    masks = np.zeros((8, HEIGHT, WIDTH), dtype=bool)
    masks[0, 20:40, 30:50] = True
    masks[0, 25:30, 35:40] = False
    masks[1, :9, :20] = True
    masks[2, 50:, 70:] = True
    masks[3, :, 40:44] = True
    masks[4] = True
    masks[5, 3:5, 3:5] = masks[5, 55:58, 80:88] = True
    masks[6, 30, 30] = True
    return masks


@pytest.fixture
def cropped(drawn: npt.NDArray[np.bool_]) -> CroppedMasks:
    """The same, each cut to its own rows and columns."""
    crops = []
    for mask in drawn:
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        region = [
            slice(int(n[0]), int(n[-1]) + 1) if n.size else slice(0, 0) for n in (rows, columns)
        ]
        crops.append(CroppedMasks.crop(mask, *region))
    return CroppedMasks(crops, (HEIGHT, WIDTH))


def test_they_hold_what_bit_masks_hold(drawn: npt.NDArray[np.bool_], cropped: CroppedMasks) -> None:
    whole = BitMasks(torch.from_numpy(drawn))
    assert torch.equal(cropped.tensor, whole.tensor)
    assert cropped.nonempty().tolist() == whole.nonempty().tolist()
    assert cropped.area().tolist() == drawn.sum(axis=(1, 2)).tolist()
    assert torch.equal(cropped.get_bounding_boxes().tensor, whole.get_bounding_boxes().tensor)
    assert sum(crop.pixels.numel() for crop in cropped.crops) < 3 * HEIGHT * WIDTH


def test_pooling_is_that_of_bit_masks(drawn: npt.NDArray[np.bool_], cropped: CroppedMasks) -> None:
    whole = BitMasks(torch.from_numpy(drawn))
    generator = torch.Generator().manual_seed(0)
    owners = torch.randint(0, len(drawn), (400,), generator=generator)
    # Also boxes that reach outside of the image, and tiny ones.
    corners = torch.rand(400, 2, 2, generator=generator) * 1.3 - 0.15
    corners = corners.sort(dim=1).values * torch.tensor([WIDTH, HEIGHT])
    boxes = corners.reshape(400, 4)
    wanted = whole[owners].crop_and_resize(boxes, 14)
    found = cropped[owners].crop_and_resize(boxes, 14)
    assert found.dtype == torch.bool
    # Sums of the same numbers in another order; only exact halves may turn.
    assert (found == wanted).float().mean() > 0.9995
    with pytest.raises(ValueError, match="a box for each of 8 masks, got 400"):
        cropped.crop_and_resize(boxes, 14)


def test_they_stand_in_instances(cropped: CroppedMasks) -> None:
    instances = Instances((HEIGHT, WIDTH), gt_masks=cropped, gt_boxes=Boxes(torch.zeros(8, 4)))
    chosen = instances[torch.tensor([4, 4, 0])].to("cpu").gt_masks
    assert chosen.area().tolist() == [HEIGHT * WIDTH, HEIGHT * WIDTH, 375]
    assert len(instances[2].gt_masks) == 1
    assert len(instances[2:5].gt_masks) == 3
    is_small = torch.tensor([False] * 6 + [True] * 2)
    assert instances[is_small].gt_masks.nonempty().tolist() == [True, False]
    assert len(Instances.cat([instances, instances]).gt_masks) == 16
