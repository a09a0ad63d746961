"""Models without numbers."""

from __future__ import annotations

import torch
from torch import nn

from piip_d2.analysis.without_numbers import copy_without_numbers, without_numbers
from tests.analysis.small import small_network


def test_nothing_is_written_but_where_there_are_numbers() -> None:
    with without_numbers():
        layer = nn.Linear(3, 4)
        nn.init.zeros_(layer.weight)
        numbers = torch.zeros(2, device="cpu").add_(1)
    assert layer.weight.is_meta and layer.bias.is_meta
    assert numbers.tolist() == [1, 1]


def test_networks_are_the_same_but_for_the_numbers() -> None:
    with without_numbers():
        empty = small_network()
    full = small_network()
    copied = copy_without_numbers(full)
    for other in (empty, copied):
        shapes = {name: tensor.shape for name, tensor in other.state_dict().items()}
        assert shapes == {name: tensor.shape for name, tensor in full.state_dict().items()}
        assert all(tensor.is_meta for tensor in other.state_dict().values())
    assert not any(tensor.is_meta for tensor in full.state_dict().values())
    assert list(map(type, copied.modules())) == list(map(type, full.modules()))


def test_buffers_and_shared_weights() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    copied = copy_without_numbers(model)
    assert copied[2].weight is copied[0].weight
    assert copied[1].running_mean.is_meta
    assert isinstance(copied[0].weight, nn.Parameter)
