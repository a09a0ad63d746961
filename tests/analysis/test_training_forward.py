"""The forward pass of training, by itself."""

from __future__ import annotations

import torch
from torch import nn

from piip_d2.analysis.padding import padded_size
from piip_d2.analysis.training_forward import run_forward
from tests.modeling.dino.tiny import build_small_model


def test_padding() -> None:
    class Backbone(nn.Module):
        size_divisibility = 64

    assert padded_size((65, 128), Backbone()) == (128, 128)
    Backbone.size_divisibility = 0
    assert padded_size((65, 128), Backbone()) == (65, 128)


def test_noise_is_of_about_the_size_of_training() -> None:
    model = build_small_model().train()
    images = torch.zeros(2, 3, 64, 128)
    output = run_forward(model, images, (60, 100))
    # One group of ten objects is as many good queries as the model asks for, and as many bad.
    assert model.denoising.num_queries == 10
    assert output.denoising is not None and output.denoising.logits.shape == (3, 2, 20, 5)
    model.denoising = None
    assert run_forward(model, images, (60, 100)).denoising is None
