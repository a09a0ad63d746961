"""CONFIGS.md has every key of the configs, with the default that the code has."""

from __future__ import annotations

import re

import pytest

from tests.documents.config_keys import (
    CASCADE,
    CLASSES,
    DINO,
    MASK_RCNN,
    keys_of_class,
    keys_of_config,
    train_defaults,
)
from tests.documents.markdown import ROOT

DOCUMENT = ROOT / "docs" / "CONFIGS.md"
_ROW = re.compile(r"^\| `(?P<key>[^`]+)` \| `?(?P<default>[^|`]*?)`? \| (?P<meaning>.+) \|$", re.M)


def _table(heading: str) -> dict[str, str]:
    """The keys and defaults below a heading, down to the next."""
    text = DOCUMENT.read_text(encoding="utf-8")
    section = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", text, re.M | re.S)
    assert section, heading
    rows = {row["key"]: row["default"] for row in _ROW.finditer(section[1])}
    assert len(rows) == section[1].count("\n| `"), "a row that cannot be read, or a key twice"
    return rows


def test_defaults_of_train() -> None:
    assert _table("train") == train_defaults()


@pytest.mark.parametrize("section", ["data", "dataloader", "optimizer", "lr_multiplier"])
def test_section(section: str) -> None:
    assert _table(section) == keys_of_config(MASK_RCNN, section)


def test_backbone() -> None:
    keys = keys_of_config(MASK_RCNN, "model.backbone")
    assert _table("model.backbone") == {k: v for k, v in keys.items() if ".branches." not in k}


def test_dino() -> None:
    keys = keys_of_config(DINO, "model")
    assert _table("DINO") == {k: v for k, v in keys.items() if ".bottom_up." not in k}


@pytest.mark.parametrize("name", CLASSES)
def test_arguments_of(name: str) -> None:
    assert _table(name) == keys_of_class(name)


@pytest.mark.parametrize(
    ("heading", "config"), [("R-CNN heads", MASK_RCNN), ("Cascade R-CNN", CASCADE)]
)
def test_keys_of_heads_are_there(heading: str, config: str) -> None:
    rows = _table(heading)
    assert rows
    assert rows.items() <= keys_of_config(config, "model").items()


def test_own_options_of_the_cascade_are_all_there() -> None:
    stated = {key.rpartition(".")[2] for key in _table("Cascade R-CNN")}
    source = (ROOT / "piip_d2" / "modeling" / "roi_heads" / "cascade.py").read_text("utf-8")
    constructor = re.search(r"def __init__\((.*?)\) -> None", source, flags=re.DOTALL)
    assert constructor
    options = re.findall(r"^ +(\w+): [^=\n]+ = ", constructor[1], flags=re.MULTILINE)
    assert set(options) - {"mask_head"} <= stated
