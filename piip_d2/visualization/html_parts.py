"""Style of an HTML report, and the script that enlarges its pictures."""

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1500px; padding: 1rem 2rem;
  color: #1b1b1b; background: #fff; }
h1 { font-size: 1.7rem; margin: 0.4rem 0; }
h2 { font-size: 1.3rem; border-bottom: 2px solid #0072b2; padding-bottom: 0.2rem; }
table { border-collapse: collapse; font-size: 0.92rem; }
th { text-align: left; padding: 0.1rem 1.2rem 0.1rem 0; color: #444; vertical-align: top; }
td { font-family: ui-monospace, monospace; overflow-wrap: anywhere; }
nav ol { display: flex; flex-wrap: wrap; gap: 0.3rem 2rem; padding-left: 1.2rem; }
figure { margin: 1rem 0 2rem; }
figure img { max-width: 100%; height: auto; border: 1px solid #ddd; cursor: zoom-in; }
figcaption { font-size: 0.92rem; color: #333; }
#zoom { position: fixed; inset: 0; background: #111d; display: none; overflow: hidden;
  touch-action: none; cursor: grab; }
#zoom.open { display: block; }
#zoom img { position: absolute; left: 0; top: 0; transform-origin: 0 0; background: #fff;
  max-width: none; user-select: none; -webkit-user-drag: none; }
#zoom p { position: absolute; left: 0; right: 0; bottom: 0; margin: 0; padding: 0.4rem;
  text-align: center; color: #fff; background: #000a; pointer-events: none; }
.explorer { background: #f5f7f9; border: 1px solid #d5dbe0; padding: 0.8rem 1rem; }
.explorer .controls { display: flex; flex-wrap: wrap; gap: 0.6rem 1.5rem; align-items: center; }
.explorer .views { display: flex; flex-wrap: wrap; gap: 1.5rem; margin-top: 0.8rem; }
.explorer .view { flex: 1 1 380px; max-width: 680px; }
.explorer canvas { width: 100%; height: auto; background: #e8e8e8; display: block; }
.explorer #query { cursor: crosshair; }
.explorer .key { display: inline-block; width: 0.8em; height: 0.8em; border-radius: 50%;
  margin: 0 0.25em 0 0.8em; }
"""

ZOOM_HTML = """<div id="zoom" role="dialog" aria-label="enlarged picture"><img alt="">
<p>wheel or + and −: zoom · drag: move · 0: fit · Esc: close</p></div>"""

ZOOM_SCRIPT = """
(() => {
  const box = document.getElementById("zoom");
  const picture = box.querySelector("img");
  let scale = 1, x = 0, y = 0, from = null, moved = false;
  const place = () => {
    picture.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
  };
  const fit = () => {
    const [w, h] = [picture.naturalWidth, picture.naturalHeight];
    scale = Math.min(box.clientWidth / w, box.clientHeight / h);
    x = (box.clientWidth - w * scale) / 2;
    y = (box.clientHeight - h * scale) / 2;
    place();
  };
  const zoomAt = (factor, atX, atY) => {
    const next = Math.min(Math.max(scale * factor, 0.1), 20);
    x = atX - (atX - x) * next / scale;
    y = atY - (atY - y) * next / scale;
    scale = next;
    place();
  };
  const open = (source) => {
    picture.src = source.src;
    picture.alt = source.alt;
    box.classList.add("open");
    picture.decode().then(fit, fit);
  };
  const close = () => box.classList.remove("open");
  for (const source of document.querySelectorAll("img.zoomable")) {
    source.addEventListener("click", () => open(source));
    source.addEventListener("keydown", (event) => { if (event.key === "Enter") open(source); });
  }
  box.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomAt(Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
  }, { passive: false });
  box.addEventListener("pointerdown", (event) => {
    from = [event.clientX - x, event.clientY - y];
    moved = false;
    box.setPointerCapture(event.pointerId);
  });
  box.addEventListener("pointermove", (event) => {
    if (!from) return;
    moved = moved || Math.hypot(event.clientX - x - from[0], event.clientY - y - from[1]) > 3;
    [x, y] = [event.clientX - from[0], event.clientY - from[1]];
    place();
  });
  box.addEventListener("pointerup", (event) => {
    from = null;
    const r = picture.getBoundingClientRect();
    const inside = event.clientX >= r.left && event.clientX <= r.right
      && event.clientY >= r.top && event.clientY <= r.bottom;
    if (!moved && !inside) close();
  });
  document.addEventListener("keydown", (event) => {
    if (!box.classList.contains("open")) return;
    const [middleX, middleY] = [box.clientWidth / 2, box.clientHeight / 2];
    if (event.key === "Escape") close();
    else if (event.key === "+" || event.key === "=") zoomAt(1.3, middleX, middleY);
    else if (event.key === "-") zoomAt(1 / 1.3, middleX, middleY);
    else if (event.key === "0") fit();
  });
})();
"""
