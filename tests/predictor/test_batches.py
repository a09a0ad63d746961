"""Many images at once, and the arithmetic they are looked at with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

from piip_d2.predictor import Predictor


def test_batch_equals_single_images(predictor: Predictor, picture: np.ndarray) -> None:
    # Of three sizes once they are resized, of which two differ once they are padded.
    images = [picture, picture[:, :30], picture[::-1], picture[:35], picture[:, 1:31]]
    batch = predictor.predict_batch(images, batch_size=5)
    for instances, image in zip(batch, images, strict=True):
        assert instances.image_size == image.shape[:2]
        torch.testing.assert_close(instances.scores, predictor(image).scores)
    assert predictor.predict_batch([]) == []


@pytest.fixture
def sizes(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images the model saw, call by call."""
    seen: list[int] = []
    forward = predictor.model.forward
    monkeypatch.setattr(
        predictor.model, "forward", lambda inputs: seen.append(len(inputs)) or forward(inputs)
    )
    return seen


def test_images_of_one_padded_size_go_together(
    predictor: Predictor, picture: np.ndarray, sizes: list[int]
) -> None:
    predictor.predict_batch([picture, picture[:, :30], picture[::-1]])
    assert sizes == [2, 1]


def test_large_batches_are_taken_in_parts(
    predictor: Predictor, picture: np.ndarray, sizes: list[int]
) -> None:
    read = []
    images = (read.append(len(sizes)) or picture for _ in range(9))
    expected = predictor(picture).scores
    sizes.clear()
    for instances in predictor.predict_batch(images):
        torch.testing.assert_close(instances.scores, expected)
    assert sizes == [4, 4, 1]
    # Later images are read when their turn comes.
    assert read == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    sizes.clear()
    predictor.predict_batch([picture] * 3, batch_size=2)
    assert sizes == [2, 1]


@pytest.mark.parametrize("images", ["picture.png", Path("picture.png"), np.zeros((9, 9, 3))])
def test_one_image_is_no_batch(predictor: Predictor, images: object) -> None:
    with pytest.raises(TypeError, match="call the predictor itself with it"):
        predictor.predict_batch(images)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float16"}, r"dtype must be one of \('fp32', 'bf16', 'fp16'\) or None"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_wrong_options(cfg: DictConfig, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Predictor(cfg, **options)


def test_half_precision_answers_in_float32(
    cfg: DictConfig, checkpoint: Path, picture: np.ndarray
) -> None:
    exact, half = (Predictor(cfg, checkpoint, dtype=dtype) for dtype in ("fp32", "bf16"))
    seen = []
    half.model.backbone.register_forward_hook(
        lambda *args: seen.append(next(iter(args[2].values())))
    )
    answer = half(picture)
    assert seen[0].dtype == torch.bfloat16
    assert next(half.model.parameters()).dtype == torch.float32
    assert answer.scores.dtype == answer.pred_boxes.tensor.dtype == torch.float32
    best = exact(picture).scores[0]
    torch.testing.assert_close(answer.scores[0], best, rtol=0.02, atol=0.02)
    assert not torch.equal(answer.scores[0], best)


def test_too_little_memory_names_the_ways_out(
    cfg: DictConfig, checkpoint: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(cfg, checkpoint)

    def fail(inputs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nMore.")

    monkeypatch.setattr(predictor.model, "forward", fail)
    message = (
        r"does not hold 2 image\(s\) of 64x90, 64x90 pixels \(batch_size=2, dtype=fp32\).*9 GiB"
    )
    with pytest.raises(torch.OutOfMemoryError, match=message):
        predictor.predict_batch([picture, picture])
