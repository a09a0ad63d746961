"""Overrides are checked before they change anything."""

from __future__ import annotations

import re
from typing import Any

import pytest
from detectron2.config import LazyCall as L
from omegaconf import DictConfig, OmegaConf
from torch import nn

from piip_d2.engine.overrides import accepts_argument, apply_overrides


def _config() -> DictConfig:
    return OmegaConf.create(
        {
            "model": L(nn.Sequential)(),
            "layers": [L(nn.Linear)(in_features=2, out_features=3), {"width": "${train.period}"}],
            "train": {"max_iter": 10, "period": 5, "output_dir": "./output", "amp": {"on": False}},
            "optimizer": {"params": {"model": None}, "lr": 0.1, "free": {}},
        },
        flags={"allow_objects": True},
    )


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.max_iter=2", "train.max_iter", 2),
        ("train.amp.on=True", "train.amp.on", True),
        ("optimizer.lr=1e-4", "optimizer.lr", 1e-4),
        ("layers.0.out_features=7", "layers.0.out_features", 7),
        ("layers.0={a: 1}", "layers.0.a", 1),
        ("train.output_dir=null", "train.output_dir", None),
        ("+train.new.key=3", "train.new.key", 3),
        ("optimizer.free=4", "optimizer.free", 4),
        ("train.output_dir=runs/My Run (2)", "train.output_dir", "runs/My Run (2)"),
        ("train.output_dir=x?a=b", "train.output_dir", "x?a=b"),
        ("train.output_dir=one,two", "train.output_dir", "one,two"),
        ('train.output_dir=a"(b\\', "train.output_dir", 'a"(b\\'),
        ("train.max_iter=2.5", "train.max_iter", 2.5),
        ("train.max_iter=null", "train.max_iter", None),
        ("train.max_iter=${train.period}", "train.max_iter", 5),
        ("layers.0.in_features=[2,3]", "layers.0.in_features", [2, 3]),
    ],
)
def test_value_arrives(override: str, key: str, value: Any) -> None:
    cfg = apply_overrides(_config(), [override])
    assert OmegaConf.select(cfg, key) == value


def test_argument_that_the_config_leaves_out_is_known() -> None:
    cfg = apply_overrides(_config(), ["layers.0.bias=False"])
    assert cfg.layers[0].bias is False


def test_interpolations_survive() -> None:
    cfg = apply_overrides(_config(), ["train.period=6"])
    assert cfg.layers[1].width == 6


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trayn.max_iter=2", "unknown config key 'trayn.max_iter'; did you mean train.max_iter?"),
        ("train.max_itr=2", "did you mean train.max_iter?"),
        ("max_iter=2", "did you mean train.max_iter?"),
        ("layers.0.out_featurs=2", "did you mean layers.0.out_features?"),
        ("layers.0.biass=False", "did you mean layers.0.bias"),
        ("layers.5.width=2", "unknown config key 'layers.5.width'"),
        ("layers.5=2", "unknown config key 'layers.5': layers is a list of 2"),
        ("train.max_iter.more=2", "unknown config key 'train.max_iter.more'"),
        ("zebra=2", r"saved config.yaml lists all. \(\+zebra=… adds a new key\)"),
        ("train.amp=True", "'train.amp' is a section and cannot become True; it has the keys on"),
        ("train.max_iter", "'train.max_iter' is no override; write path.to.key=value"),
        ("--resume", "option '--resume' must stand before all key=value"),
        ("~train.amp", "keys cannot be deleted; set train.amp=null"),
        ("train.max_iter=[1,", r"cannot use 'train.max_iter=\[1,': its value cannot be parsed"),
        ("train.max_iter=abc", "'train.max_iter' must be a number as its .* value 10, got 'abc'"),
        ("train.max_iter=True", "'train.max_iter' must be a number .*, got True"),
        ("train.max_iter=[1,2]", "'train.max_iter' must be a number"),
        ("train.max_iter='7'", "'train.max_iter' must be a number"),
        ("optimizer.lr=high", "'optimizer.lr' must be a number"),
        ("layers.0.in_features=two", "'layers.0.in_features' must be a number"),
        ("layers.0.in_features={a: 1}", "'layers.0.in_features' must be a number"),
        ("train.amp.on=1", "'train.amp.on' must be True or False as its .* value False, got 1"),
        ("train.amp.on=yes", "'train.amp.on' must be True or False"),
        ("train.max_iter=1,2", "a list is written in brackets"),
    ],
)
def test_mistake_is_told_and_changes_nothing(override: str, message: str) -> None:
    cfg = _config()
    with pytest.raises(ValueError, match=message):
        apply_overrides(cfg, [override])
    assert cfg == _config()


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("model.denoising.num_clases", "model.num_classes?"),
        ("model.transformer.num_clases", "model.num_classes or model.transformer?"),
        (
            "model.head.in_featurs",
            "model.width (which model.head.in_features follows) or model.head.out_features or ",
        ),
        ("model.los", "model.loss?"),
        ("model.round.heer", "model.round.here or model.round.there or model.round?"),
        ("head.bias", "model.head.bias?"),
    ],
)
def test_hint_names_the_key_that_others_follow_once(key: str, hint: str) -> None:
    cfg = OmegaConf.create(
        {
            "model": {
                "num_classes": 80,
                "width": 4,
                "head": L(nn.Linear)(in_features="${..width}", out_features=2),
                "denoising": {"num_classes": "${..num_classes}"},
                "transformer": {"num_classes": "${model.denoising.num_classes}"},
                "loss": "${nothing.here}",
                "round": {"here": "${.there}", "there": "${.here}"},
            }
        },
        flags={"allow_objects": True},
    )
    with pytest.raises(
        ValueError, match=re.escape(f"unknown config key {key!r}; did you mean {hint}")
    ):
        apply_overrides(cfg, [f"{key}=2"])


def test_accepts_argument() -> None:
    linear = L(nn.Linear)(in_features=2)
    assert accepts_argument(linear, "in_features")
    assert accepts_argument(linear, "bias")
    assert not accepts_argument(linear, "seed")
    by_name = {"_target_": "torch.nn.Linear"}
    assert accepts_argument(by_name, "bias")
    assert not accepts_argument({"_target_": dict}, "bias")
    assert not accepts_argument(None, "bias")
