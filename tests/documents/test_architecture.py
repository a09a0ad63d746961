"""The map of the code has every part of the package, and its picture is one that all can read."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from tests.documents.markdown import ROOT

DOCUMENT = ROOT / "docs" / "ARCHITECTURE.md"
PICTURE = ROOT / "docs" / "images" / "data_flow.svg"


def test_every_part_has_a_row() -> None:
    parts = {
        f"piip_d2/{path.name}/" if path.is_dir() else f"piip_d2/{path.name}"
        for path in (ROOT / "piip_d2").iterdir()
        if (path.is_dir() or path.suffix == ".py") and not path.name.startswith("_")
    }
    text = DOCUMENT.read_text(encoding="utf-8")
    assert not [part for part in sorted(parts) if f"| `{part}`" not in text]


def test_every_folder_at_the_top_has_a_row() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in ("benchmarks", "configs", "docs", "requirements", "tools"):
        assert f"`{name}/`" in text


def test_picture_names_classes_that_exist() -> None:
    texts = ["".join(node.itertext()) for node in ElementTree.parse(PICTURE).iter()]
    code = "".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "piip_d2" / "modeling" / "backbone").glob("*.py")
    )
    for name in ("Branch", "InteractionStage", "BranchMerge", "FeatureMaps", "PIIPFPN"):
        assert any(name in text for text in texts) and f"class {name}(" in code
    assert "How an image flows" in texts[1]
