"""The HTML report: one file, no network, nothing that a name could break; its script runs."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from piip_d2.visualization.figures import Picture
from piip_d2.visualization.html_report import ReportSection, render_report, write_report
from piip_d2.visualization.inside import Record, explorer_data, looks_at, record_network
from piip_d2.visualization.inside import explorer as explorer_module
from tests.visualization.inside.small_networks import NETWORKS

NODE = shutil.which("node")
POINT = (0.3, 0.6)
PICTURE = Picture('A "title" <b>', "See </script><img src=x>", b"\x89PNG content")

# As much of a browser as the script touches; what it draws is written down.
BROWSER = """
const calls = [], made = {};
function element(id) {
  if (made[id]) return made[id];
  const pen = new Proxy({}, {
    get: (_, name) => (...args) => { calls.push([id, name, ...args]); },
    set: () => true,
  });
  return made[id] = {
    style: {}, options: [], value: "", handlers: {},
    add(option) {
      this.options.push(option);
      if (this.options.length === 1) this.value = String(option.value);
    },
    replaceChildren(...children) {
      this.options = []; this.value = "";
      for (const child of children) this.add(child);
    },
    append() {}, getContext: () => pen, querySelector: () => element(id + " img"),
    addEventListener(name, handler) { this.handlers[name] = handler; },
    getBoundingClientRect: () => ({ left: 0, top: 0, width: 200, height: 100 }),
  };
}
globalThis.document = {
  getElementById: element, querySelectorAll: () => [], addEventListener() {},
  createElement: () => ({ style: {} }),
};
globalThis.Option = class { constructor(text, value) { this.text = text; this.value = value; } };
globalThis.Image = class {};
"""
RESULT = """
calls.length = 0;
element("look").value = @LOOK@;
element("look").handlers.change();
element("query").handlers.pointerdown({ clientX: 200 * @X@, clientY: 100 * @Y@ });
const last = calls.map((call) => call[1]).lastIndexOf("clearRect");
const drawn = calls.slice(last).filter((call) => call[1] === "arc").map((call) => call.slice(2, 5));
const filled = calls.slice(last).filter((call) => call[1] === "fill").length;
console.log(JSON.stringify({
  arcs: drawn, filled, looks: element("look").options.length, where: element("where").textContent,
  width: element("read").width, height: element("read").height,
}));
"""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def record() -> Record:
    images = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    return record_network(NETWORKS["two ViTs"](), images, (90, 128))


def test_names_cannot_break_the_page() -> None:
    page = render_report("<Title>", {"a<": "b&"}, [ReportSection("S<", "t<", [PICTURE])])
    reader = _Reader()
    reader.feed(page)
    images = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert [image.get("alt") for image in images] == [
        'A "title" <b>. See </script><img src=x>',
        "",
    ]
    assert [tag for tag, _ in reader.tags].count("script") == 1
    assert "&lt;Title&gt;" in page and "<b>A &quot;title&quot; &lt;b&gt;.</b>" in page
    data = str(images[0]["src"]).removeprefix("data:image/png;base64,")
    assert base64.b64decode(data) == PICTURE.png


def test_nothing_comes_from_elsewhere(record: Record, tmp_path: Path) -> None:
    section = ReportSection("Attention", pictures=[PICTURE], explorer=explorer_data(record, POINT))
    write_report(tmp_path / "report.html", "Report", {}, [section])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    reader = _Reader()
    reader.feed(page)
    sources = [attrs[name] for _, attrs in reader.tags for name in ("src", "href") if name in attrs]
    assert all(str(source).startswith(("data:", "#")) for source in sources)
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttp", page)
    policy = next(attrs for tag, attrs in reader.tags if "http-equiv" in attrs)
    assert "default-src 'none'" in str(policy["content"])


def test_only_one_explorer(record: Record) -> None:
    section = ReportSection("Attention", explorer=explorer_data(record, POINT))
    with pytest.raises(ValueError, match="one section can have an explorer, got 2"):
        render_report("Report", {}, [section, section])


def test_too_many_samples_leave_out_deep_interactions(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(explorer_data(record, POINT)["looks"]) == 4
    # One interaction: 12 x 16 + 6 x 8 cells with 4 heads of 4 points.
    monkeypatch.setattr(explorer_module, "_MOST_SAMPLES", (192 + 48) * 16)
    assert [look["interaction"] for look in explorer_data(record, POINT)["looks"]] == [0, 0]


def test_regular_attention_has_no_explorer() -> None:
    images = torch.zeros(1, 3, 64, 64)
    record = record_network(NETWORKS["regular attention"](), images)
    assert explorer_data(record, POINT)["looks"] == []


@pytest.mark.skipif(NODE is None, reason="runs the page's script with Node.js")
@pytest.mark.parametrize("point", [POINT, (0.01, 0.01), (0.99, 0.9)])
@pytest.mark.parametrize("number", range(4))
def test_script_draws_what_the_cell_reads(
    record: Record, number: int, point: tuple[float, float]
) -> None:
    data = explorer_data(record, (0.01, 0.01))
    page = render_report("Report", {}, [ReportSection("Attention", explorer=data)])
    script = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)[0]
    result = RESULT.replace("@LOOK@", str(number))
    result = result.replace("@X@", str(point[0])).replace("@Y@", str(point[1]))
    finished = subprocess.run(
        [str(NODE), "-"], input=BROWSER + script + result, capture_output=True, text=True
    )
    assert not finished.stderr
    drawn = json.loads(finished.stdout)
    assert drawn["looks"] == 4
    look = looks_at(record, point)[number]
    assert look.points is not None and look.outside is not None
    rows, columns = look.cell_grid
    row, column = look.cell
    assert drawn["where"] == f"row {row}, column {column} of {rows} x {columns} cells"
    # The canvas shows 15 % of the image beyond each of its edges; what is further out, at the rim.
    places = (look.points.reshape(-1, 2).clip(-0.15, 1.15) + 0.15) / 1.3
    expected = places * (drawn["width"], drawn["height"])
    arcs = np.array(drawn["arcs"])
    assert len(arcs) == len(expected)
    assert drawn["filled"] == (~look.outside).sum()
    for x, y in expected:
        assert np.abs(arcs[:, :2] - (x, y)).max(axis=1).min() < 0.5
    largest = 24 * np.sqrt(look.weights.max())
    assert arcs[0, 2] == pytest.approx(largest, abs=0.2)
