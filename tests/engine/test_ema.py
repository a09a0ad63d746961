"""The moving average of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from piip_d2.engine.ema import ExponentialMovingAverage


def _model() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    model[2].requires_grad_(False)
    return model


def _set_weights(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def test_decay_ramps_up() -> None:
    ema = ExponentialMovingAverage(_model(), decay=0.5, warmup=4)
    decays = []
    for _ in range(5):
        decays.append(ema.current_decay())
        ema.update()
    # (1 + n) / (4 + n), never above 0.5
    assert decays == [1 / 4, 2 / 5, 0.5, 0.5, 0.5]


def test_average_follows_the_formula() -> None:
    model = _model()
    _set_weights(model, 0.0)
    ema = ExponentialMovingAverage(model, decay=0.9, warmup=10)
    expected = 0.0
    for step in range(1, 6):
        decay = ema.current_decay()
        _set_weights(model, float(step))
        ema.update()
        expected = decay * expected + (1 - decay) * step
    torch.testing.assert_close(ema.weights["0.weight"], torch.full((2, 2), expected))


def test_only_trained_weights_are_averaged() -> None:
    ema = ExponentialMovingAverage(_model())
    assert set(ema.weights) == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_applied_swaps_and_swaps_back() -> None:
    model = _model()
    _set_weights(model, 1.0)
    ema = ExponentialMovingAverage(model)
    _set_weights(model, 5.0)
    with pytest.raises(RuntimeError, match="inside"), ema.applied():
        assert model[0].weight[0, 0].item() == 1.0
        assert ema.averaged_state_dict()["0.weight"][0, 0].item() == 5.0
        raise RuntimeError("inside")
    assert model[0].weight[0, 0].item() == 5.0
    assert ema.weights["0.weight"][0, 0].item() == 1.0


def test_averaged_state_dict_fits_the_model() -> None:
    model = _model()
    ema = ExponentialMovingAverage(model)
    _set_weights(model, 3.0)
    other = _model()
    other.load_state_dict(ema.averaged_state_dict())
    assert torch.equal(other[0].weight, ema.weights["0.weight"])
    assert other[2].weight[0, 0].item() == 3.0


def test_state_survives_saving() -> None:
    model = _model()
    ema = ExponentialMovingAverage(model)
    for value in (1.0, 2.0):
        _set_weights(model, value)
        ema.update()
    other = ExponentialMovingAverage(_model())
    other.load_state_dict(ema.state_dict())
    assert other.num_updates == 2
    for name, weight in ema.weights.items():
        assert torch.equal(weight, other.weights[name])


def test_reset_forgets() -> None:
    model = _model()
    ema = ExponentialMovingAverage(model)
    ema.update()
    _set_weights(model, 7.0)
    ema.reset()
    assert ema.num_updates == 0
    assert ema.weights["0.weight"][0, 0].item() == 7.0


def test_state_of_another_model_is_refused() -> None:
    state = ExponentialMovingAverage(nn.Linear(2, 2)).state_dict()
    with pytest.raises(ValueError, match="of other weights than those trained now.*0.bias"):
        ExponentialMovingAverage(_model()).load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"decay": 1.0}, r"decay must lie in \[0, 1\), got 1.0"), ({"warmup": 0}, "warmup must be")],
)
def test_senseless_arguments_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExponentialMovingAverage(_model(), **arguments)
