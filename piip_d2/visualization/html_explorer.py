"""The part of an HTML report in which one clicks through cross-branch attention."""

EXPLORER_HTML = """<div class="explorer">
<div class="controls">
<label>Direction <select id="look"></select></label>
<label>Heads <select id="head"></select></label>
<span id="where"></span>
</div>
<div class="views">
<div class="view"><canvas id="query" tabindex="0" aria-label="the branch that looks"></canvas>
<div id="queryName"></div></div>
<div class="view"><canvas id="read" aria-label="the branch that is read"></canvas>
<div id="readName"></div></div>
</div>
<p><span id="heads"></span><br>Click into the left image, or move with the arrow keys. The area of
a circle is the weight of the point among those of its head; hollow circles lie half a cell or
more outside the map and read zeros. The red frame is the cell that looks; padding is shaded.</p>
</div>
"""

EXPLORER_SCRIPT = """
(() => {
  const data = @DATA@;
  const at = (id) => document.getElementById(id);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  // Little-endian, on whatever machine this runs.
  const shorts = (text) => {
    const view = new DataView(bytes(text).buffer);
    return Int16Array.from({ length: view.byteLength / 2 }, (_, i) => view.getInt16(2 * i, true));
  };
  const images = data.branches.map((branch) => {
    const image = new Image();
    image.onload = () => draw();
    image.src = branch.image;
    return image;
  });
  let point = data.start, look = null;
  data.looks.forEach((entry, number) => at("look").add(new Option(entry.title, number)));

  const chooseLook = () => {
    look = data.looks[at("look").value];
    look.xy = look.xy || shorts(look.offsets);
    look.share = look.share || bytes(look.weights);
    const wanted = at("head").value;
    at("head").replaceChildren(new Option("all", ""));
    for (let head = 0; head < look.heads; head++)
      at("head").add(new Option(`head ${head + 1} of ${look.heads}`, head));
    at("head").value = wanted && wanted < look.heads ? wanted : "";
    at("heads").replaceChildren();
    for (let head = 0; head < look.heads; head++) {
      const key = document.createElement("span");
      key.className = "key";
      key.style.background = data.headColors[head];
      at("heads").append(key, `head ${head + 1}`);
    }
    draw();
  };

  const cell = () => [
    Math.min(Math.floor(point[1] * look.grid[0]), look.grid[0] - 1),
    Math.min(Math.floor(point[0] * look.grid[1]), look.grid[1] - 1),
  ];

  // A canvas with a margin around the image, as shares of it, and its grid of cells.
  const prepare = (canvas, number, grid, margin) => {
    const branch = data.branches[number];
    canvas.width = 900;
    canvas.height = Math.round(900 * branch.height / branch.width);
    const width = canvas.width / (1 + 2 * margin), height = canvas.height / (1 + 2 * margin);
    const map = (x, y) => [(x + margin) * width, (y + margin) * height];
    const pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = false;
    pen.clearRect(0, 0, canvas.width, canvas.height);
    const [left, top] = map(0, 0);
    pen.drawImage(images[number], left, top, width, height);
    pen.fillStyle = "#ccccccaa";
    const [bottom, right] = data.content;
    pen.fillRect(left, top + bottom * height, width, (1 - bottom) * height);
    pen.fillRect(left + right * width, top, (1 - right) * width, bottom * height);
    pen.strokeStyle = "#ffffff55";
    pen.lineWidth = 1;
    pen.beginPath();
    for (let row = 0; row <= grid[0]; row++) {
      pen.moveTo(...map(0, row / grid[0]));
      pen.lineTo(...map(1, row / grid[0]));
    }
    for (let column = 0; column <= grid[1]; column++) {
      pen.moveTo(...map(column / grid[1], 0));
      pen.lineTo(...map(column / grid[1], 1));
    }
    pen.stroke();
    const [row, column] = cell();
    const corner = map(column / look.grid[1], row / look.grid[0]);
    const size = [width / look.grid[1], height / look.grid[0]];
    for (const [color, line] of [["#fff", 6], ["#d50000", 3]]) {
      pen.strokeStyle = color;
      pen.lineWidth = line;
      pen.strokeRect(...corner, ...size);
    }
    return [pen, map];
  };

  const MARGIN = 0.15;
  const draw = () => {
    if (!look) return;
    prepare(at("query"), look.querying, look.grid, 0);
    const [pen, map] = prepare(at("read"), look.attended, look.attendedGrid, MARGIN);
    const [row, column] = cell();
    const centre = [(column + 0.5) / look.grid[1], (row + 0.5) / look.grid[0]];
    const first = (row * look.grid[1] + column) * look.heads * look.points;
    const wanted = at("head").value;
    const samples = [];
    for (let sample = 0; sample < look.heads * look.points; sample++) {
      const head = Math.floor(sample / look.points);
      if (wanted !== "" && head !== Number(wanted)) continue;
      const place = first + sample;
      samples.push({
        head,
        weight: look.share[place] / 255,
        x: centre[0] + look.xy[2 * place] / data.steps,
        y: centre[1] + look.xy[2 * place + 1] / data.steps,
      });
    }
    samples.sort((a, b) => b.weight - a.weight);
    let beyond = 0;
    for (const { head, weight, x, y } of samples) {
      const limit = (share) => Math.min(Math.max(share, -MARGIN), 1 + MARGIN);
      if (limit(x) !== x || limit(y) !== y) beyond += 1;
      // Bilinear sampling still reads some of the map up to half a cell outside of it.
      const readsZero = (share, cells) => share <= -0.5 / cells || share >= 1 + 0.5 / cells;
      const outside =
        readsZero(x, look.attendedGrid[1]) || readsZero(y, look.attendedGrid[0]);
      pen.beginPath();
      pen.arc(...map(limit(x), limit(y)), Math.max(24 * Math.sqrt(weight), 3), 0, 2 * Math.PI);
      pen.fillStyle = data.headColors[head];
      pen.strokeStyle = outside ? data.headColors[head] : "#000";
      pen.lineWidth = outside ? 3 : 1.5;
      if (!outside) pen.fill();
      pen.stroke();
    }
    const [reader, source] = [data.branches[look.querying], data.branches[look.attended]];
    at("query").style.outline = `4px solid ${reader.color}`;
    at("read").style.outline = `4px solid ${source.color}`;
    const name = (branch) => `${branch.label}, ${branch.width} x ${branch.height} px`;
    at("queryName").textContent = `${name(reader)}: it looks`;
    at("readName").textContent = `${name(source)}: it is read`
      + (beyond ? ` (${beyond} points lie further out, drawn at the rim)` : "");
    at("where").textContent =
      `row ${row}, column ${column} of ${look.grid[0]} x ${look.grid[1]} cells`;
  };

  const choosePoint = (event) => {
    const box = at("query").getBoundingClientRect();
    const limit = (share) => Math.min(Math.max(share, 0), 0.999999);
    point = [limit((event.clientX - box.left) / box.width),
      limit((event.clientY - box.top) / box.height)];
    draw();
  };
  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  at("query").addEventListener("pointerdown", choosePoint);
  at("query").addEventListener("pointermove", (event) => {
    if (event.buttons) choosePoint(event);
  });
  at("query").addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (!move) return;
    event.preventDefault();
    const [row, column] = cell();
    const limit = (value, count) => (Math.min(Math.max(value, 0), count - 1) + 0.5) / count;
    point = [limit(column + move[0], look.grid[1]), limit(row + move[1], look.grid[0])];
    draw();
  });
  at("look").addEventListener("change", chooseLook);
  at("head").addEventListener("change", draw);
  if (data.looks.length) chooseLook();
})();
"""
