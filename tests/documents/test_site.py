"""The documentation becomes a site without a network, and all of its links lead somewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.documents.markdown import ROOT

# Attributes by which a page asks for a file, and those of which it only tells.
LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}
FOLLOWED = {("a", "href")}
# What the theme mentions, but no browser loads.
NOT_LOADED = ("canonical", "prev", "next")

NODE = shutil.which("node")
# A browser with a page of the site opened from the disk, as far as the search asks for it: a frame
# is another context, in which the scripts of its text run.
BROWSER = """
const fs = require("fs");
const vm = require("vm");
const { fileURLToPath } = require("url");
const site = process.argv[2];

function makeWindow(more) {
  const events = new EventTarget();
  const names = ["addEventListener", "removeEventListener", "dispatchEvent"];
  const methods = names.map((name) => [name, events[name].bind(events)]);
  const own = Object.fromEntries(methods);
  const window = { EventTarget, MessageEvent, URL, console, ...own, ...more };
  window.window = window.self = window;
  return vm.createContext(window);
}

class Frame {
  start() {
    this.contentWindow = makeWindow({ frameElement: this, parent: page });
    this.contentWindow.document = {
      querySelector: () => ({ src: this.srcdoc.match(/src="(.*?)"/)[1] }),
    };
    const scripts = /<script(?: src="(.*?)")?>(.*?)<.script>/g;
    for (const [, address, text] of this.srcdoc.matchAll(scripts)) {
      const script = address ? fs.readFileSync(fileURLToPath(address), "utf8") : text;
      vm.runInContext(script, this.contentWindow);
    }
    setImmediate(this.onload);
  }
}

const page = makeWindow({
  location: { protocol: "file:" },
  document: {
    baseURI: `file://${site}/index.html`,
    createElement: () => new Frame(),
    body: { append: (frame) => frame.start() },
  },
});
for (const script of ["site/iframe-worker.js", "search/search_index.js"])
  vm.runInContext(fs.readFileSync(`${site}/${script}`, "utf8"), page);
const [name] = fs.readdirSync(`${site}/assets/javascripts/workers`).filter((x) => x.endsWith("js"));
const worker = new page.Worker(`assets/javascripts/workers/${name}`);
worker.addEventListener("message", ({ data }) => {
  if (data.type === 1) worker.postMessage({ type: 2, data: process.argv[3] });
  else console.log(JSON.stringify(data.data.items.flat().map((item) => item.location)));
});
const options = { suggest: false };
worker.postMessage({ type: 0, data: { ...page.__index, options } });
"""


class _Page(HTMLParser):
    """Collects of a page what it loads, where it leads, and what can be led to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: set[str] = set()
        self.followed: set[str] = set()
        self.anchors: set[str] = set()
        self.titles: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        if "id" in values:
            self.anchors.add(values["id"])
        for name, value in values.items():
            if (tag, name) in LOADED and values.get("rel") not in NOT_LOADED:
                self.loaded.add(value)
            elif (tag, name) in FOLLOWED:
                self.followed.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    # Whatever wants to reach the network fails at once.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    environment = {**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Page]:
    return {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def test_every_document_is_a_page(pages: dict[Path, _Page], site: Path) -> None:
    wanted = {path.stem for folder in ("docs",) for path in (ROOT / folder).glob("*.md")}
    assert {*wanted, "index", "CONTRIBUTING", "CHANGELOG"} <= {path.stem for path in pages}


def test_links_lead_to_pages_and_headings(pages: dict[Path, _Page], site: Path) -> None:
    broken = []
    for path, page in pages.items():
        # The page for missing ones has addresses of a server.
        if path.name == "404.html":
            continue
        for target in page.followed | page.loaded:
            address = urlsplit(target)
            if address.scheme or address.netloc or target.startswith("data:"):
                continue
            file = path.parent / unquote(address.path) if address.path else path
            file = file / "index.html" if file.is_dir() else file
            known = pages.get(Path(os.path.normpath(file)))
            missing = known and address.fragment and address.fragment not in known.anchors
            if not file.is_file() or missing:
                broken.append(f"{path.relative_to(site)}: {target}")
    assert not broken


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, _Page], site: Path) -> None:
    loaded = {target for page in pages.values() for target in page.loaded}
    assert any(target.endswith(".css") for target in loaded)
    assert not [target for target in loaded if urlsplit(target).netloc]
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert "url(http" not in styles and "@import" not in styles


def test_code_that_is_linked_is_a_page(pages: dict[Path, _Page], site: Path) -> None:
    text = (site / "source" / "configs" / "common" / "train.py.html").read_text(encoding="utf-8")
    assert "early_stopping" in text


def test_pages_bring_what_searches_without_a_server(pages: dict[Path, _Page], site: Path) -> None:
    assert (site / "search" / "search_index.js").read_text().startswith("var __index = {")
    assert "site/iframe-worker.js" in pages[site / "index.html"].loaded
    deep = pages[site / "source" / "configs" / "common" / "train.py.html"]
    assert "../../../site/iframe-worker.js" in deep.loaded


@pytest.mark.skipif(NODE is None, reason="runs the page's scripts with Node.js")
def test_search_finds_pages_from_the_disk(site: Path, tmp_path: Path) -> None:
    (tmp_path / "browser.js").write_text(BROWSER)
    for word, page in (("torchrun", "DISTRIBUTED.html"), ("LabelMe", "OWN_DATA.html")):
        finished = subprocess.run(
            [str(NODE), str(tmp_path / "browser.js"), str(site), word],
            capture_output=True,
            text=True,
        )
        assert not finished.stderr
        found = json.loads(finished.stdout)
        assert any(address.startswith(page) for address in found), found
