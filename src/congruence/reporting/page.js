"use strict";
(async () => {
  const payload = JSON.parse(document.getElementById("payload").textContent);
  const tip = document.getElementById("tip");
  const LINES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6fd1", "#7f7f7f"];
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
  const exact = (x) => (payload.bytes === 8 ? String(x) : String(Number(x.toPrecision(7))));

  async function unpack(text, type) {
    if (text === null) return null;
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new type(await new Response(stream).arrayBuffer());
  }

  function showTip(x, y, lines) {
    tip.replaceChildren(...lines.map(([tag, text, colour]) => {
      const line = document.createElement("div");
      const inner = line.appendChild(document.createElement(tag === "b" ? "b" : "span"));
      inner.textContent = text;
      if (tag === "faint") line.className = "faint";
      if (colour) { line.style.borderLeft = `4px solid ${colour}`; line.style.paddingLeft = "8px"; }
      return line;
    }));
    tip.hidden = false;
    const left = x + 16 + tip.offsetWidth > innerWidth ? x - 16 - tip.offsetWidth : x + 16;
    const top = y + 16 + tip.offsetHeight > innerHeight ? y - 16 - tip.offsetHeight : y + 16;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, top)}px`;
  }
  const hideTip = () => { tip.hidden = true; };

  function fit(context, text, most) {
    if (context.measureText(text).width <= most) return text;
    let keep = text.length - 1;
    const cut = () => `${text.slice(0, Math.ceil(keep / 2))}…${text.slice(text.length - Math.floor(keep / 2))}`;
    while (keep > 4 && context.measureText(cut()).width > most) keep -= 1;
    return cut();
  }

  // ---- matrices ----------------------------------------------------------------------------------------------------

  class Matrix {
    constructor(canvas, spec, arrays) {
      Object.assign(this, { canvas, spec, ...arrays, scale: "range", cell: null, drag: null });
      [this.rows, this.columns] = [payload.a.length, payload.b.length];
      this.view = [0, this.rows, 0, this.columns];
      canvas.addEventListener("pointermove", (e) => this.move(e));
      canvas.addEventListener("pointerleave", () => this.leave());
      canvas.addEventListener("pointerdown", (e) => { if (e.pointerType === "mouse") this.drag = [this.at(e), this.at(e)]; });
      canvas.addEventListener("pointerup", () => this.zoom());
      canvas.addEventListener("dblclick", () => { this.view = [0, this.rows, 0, this.columns]; this.draw(); });
      canvas.addEventListener("keydown", (e) => this.key(e));
      canvas.addEventListener("blur", () => this.leave());
      new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
    }

    setScale(scale) { this.scale = scale; this.image = null; this.draw(); }

    colours() {
      const { low, high, stops } = this.spec.scales[this.scale];
      const rgb = stops.map((s) => [1, 3, 5].map((k) => parseInt(s.slice(k, k + 2), 16)));
      return (x) => {
        const place = clamp((x - low) / (high - low), 0, 1) * (rgb.length - 1);
        const k = Math.min(Math.floor(place), rgb.length - 2);
        return rgb[k].map((c, m) => Math.round(c + (place - k) * (rgb[k + 1][m] - c)));
      };
    }

    paint() {
      const image = document.createElement("canvas");
      [image.width, image.height] = [this.columns, this.rows];
      const pixels = new ImageData(this.columns, this.rows);
      const { low, high } = this.spec.scales[this.scale], colour = this.colours();
      const table = Uint32Array.from({ length: 1025 }, (_, k) => {
        const [r, g, b] = colour(low + ((high - low) * k) / 1024);
        return 0xff000000 | (b << 16) | (g << 8) | r;
      });
      const target = new Uint32Array(pixels.data.buffer);
      this.values.forEach((x, k) => { if (!Number.isNaN(x)) target[k] = table[Math.round(clamp((x - low) / (high - low), 0, 1) * 1024)]; });
      image.getContext("2d").putImageData(pixels, 0, 0);
      this.image = image;
    }

    layout(context, width) {
      const [i0, i1, j0, j1] = this.view;
      const longest = (names) => context.measureText(names.reduce((most, n) => (n.length > most.length ? n : most), "").slice(0, 400)).width + 4;
      const left = clamp(longest(payload.a.slice(i0, i1)), 20, Math.min(220, width * 0.36)) + 8;
      let w = Math.min(84, (width - left - 2) / this.columns), h = Math.min(84, 660 / this.rows);
      if (w < 3 * h && h < 3 * w) w = h = Math.min(w, h);
      const [W, H] = [w * this.columns, h * this.rows];
      const below = clamp(longest(payload.b.slice(j0, j1)), 20, 180);
      return { left, top: 7, W, H, w: W / (j1 - j0), h: H / (i1 - i0), below };
    }

    draw() {
      const width = this.canvas.parentElement.clientWidth;
      if (width < 120) return;
      if (!this.image) this.paint();
      const context = this.canvas.getContext("2d"), ratio = devicePixelRatio || 1;
      context.font = `12px ${style("--sans")}`;
      const box = (this.box = this.layout(context, width));
      const turn = box.w < 18 ? Math.PI / 2 : Math.PI / 4;
      const flat = box.below <= box.w - 4;
      const height = Math.ceil(box.top + box.H + 14 + (flat ? 10 : box.below * Math.sin(turn) + 8));
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      this.canvas.style.height = `${height}px`;
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.font = `12px ${style("--sans")}`;
      this.drawCells(context, box);
      this.drawNames(context, box, flat, turn);
      this.drawMarks(context, box);
    }

    drawCells(context, { left, top, W, H, w, h }) {
      const [i0, i1, j0, j1] = this.view;
      context.save();
      context.beginPath();
      context.rect(left, top, W, H);
      context.clip();
      context.fillStyle = context.strokeStyle = style("--hatch");
      context.globalAlpha = 0.35;
      context.fillRect(left, top, W, H);
      context.globalAlpha = 1;
      context.beginPath();
      for (let x = -H; x < W; x += 7) { context.moveTo(left + x, top + H); context.lineTo(left + x + H, top); }
      context.stroke();
      context.imageSmoothingEnabled = Math.min(w, h) < 1;
      context.drawImage(this.image, j0, i0, j1 - j0, i1 - i0, left, top, W, H);
      context.restore();
      if (w < 36 || h < 20) return;
      const colour = this.colours();
      [context.textAlign, context.textBaseline] = ["center", "middle"];
      this.each((x, i, j) => {
        if (Number.isNaN(x)) return;
        const [r, g, b] = colour(x);
        context.fillStyle = 0.299 * r + 0.587 * g + 0.114 * b < 128 ? "#fff" : "#000";
        context.fillText(Math.abs(x) < 1e4 ? x.toFixed(Math.abs(x) < 100 ? 2 : 0) : x.toExponential(0), left + (j - j0 + 0.5) * w, top + (i - i0 + 0.5) * h);
      });
    }

    each(visit) {
      const [i0, i1, j0, j1] = this.view;
      for (let i = i0; i < i1; i++) for (let j = j0; j < j1; j++) visit(this.values[i * this.columns + j], i, j);
    }

    drawNames(context, { left, top, H, w, h, below }, flat, turn) {
      const [i0, i1, j0, j1] = this.view;
      context.fillStyle = style("--ink");
      [context.textAlign, context.textBaseline] = ["right", "middle"];
      for (let i = i0; i < i1; i += Math.ceil(15 / h)) context.fillText(fit(context, payload.a[i], left - 10), left - 7, top + (i - i0 + 0.5) * h);
      for (let j = j0; j < j1; j += Math.ceil(15 / w)) {
        context.save();
        context.translate(left + (j - j0 + 0.5) * w + (flat ? 0 : 3), top + H + (flat ? 14 : 8));
        if (flat) context.textAlign = "center"; else context.rotate(-turn);
        context.fillText(fit(context, payload.b[j], below), 0, 0);
        context.restore();
      }
    }

    drawMarks(context, { left, top, w, h }) {
      const [i0, , j0] = this.view;
      if (Math.min(w, h) >= 12) this.each((x, i, j) => {
        if (Number.isNaN(x) || !this.notes[i * this.columns + j]) return;
        const right = left + (j - j0 + 1) * w - 2, upper = top + (i - i0) * h + 2, size = clamp(w / 6, 4, 8);
        context.beginPath();
        context.moveTo(right, upper); context.lineTo(right - size, upper); context.lineTo(right, upper + size);
        context.fillStyle = "#fff"; context.fill();
        context.strokeStyle = "#0009"; context.stroke();
      });
      const frame = (i, j, di, dj) => {
        for (const [colour, line] of [["#fff", 4], ["#000", 2]]) {
          [context.strokeStyle, context.lineWidth] = [colour, line];
          context.strokeRect(left + (j - j0) * w, top + (i - i0) * h, dj * w, di * h);
        }
        context.lineWidth = 1;
      };
      if (this.cell) frame(...this.cell, 1, 1);
      const area = this.area();
      if (area) frame(area[0], area[2], area[1] - area[0], area[3] - area[2]);
    }

    at(event) {
      const [i0, i1, j0, j1] = this.view, { left, top, w, h } = this.box;
      const i = i0 + Math.floor((event.offsetY - top) / h), j = j0 + Math.floor((event.offsetX - left) / w);
      return i >= i0 && i < i1 && j >= j0 && j < j1 ? [i, j] : null;
    }

    area() {
      if (!this.drag || !this.drag[0] || !this.drag[1]) return null;
      const [[i, j], [k, l]] = this.drag;
      return i === k || j === l ? null : [Math.min(i, k), Math.max(i, k) + 1, Math.min(j, l), Math.max(j, l) + 1];
    }

    zoom() { this.view = this.area() || this.view; this.drag = null; this.draw(); }

    leave() { this.cell = this.drag = null; hideTip(); this.draw(); }

    move(event) {
      const cell = this.at(event);
      if (this.drag && cell) this.drag[1] = cell;
      if (String(cell) !== String(this.cell)) { this.cell = cell; this.draw(); }
      if (cell) showTip(event.clientX, event.clientY, this.describe(...cell)); else hideTip();
    }

    key(event) {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (event.key === "Escape") this.leave();
      if (!step) return;
      event.preventDefault();
      const [i0, i1, j0, j1] = this.view, [i, j] = this.cell || [i0 - step[0], j0 - step[1]];
      this.cell = [clamp(i + step[0], i0, i1 - 1), clamp(j + step[1], j0, j1 - 1)];
      this.draw();
      const around = this.canvas.getBoundingClientRect(), { left, top, w, h } = this.box;
      showTip(around.left + left + (this.cell[1] - j0 + 1) * w, around.top + top + (this.cell[0] - i0 + 1) * h, this.describe(...this.cell));
    }

    describe(i, j) {
      const k = i * this.columns + j, value = this.values[k], note = this.spec.texts[this.notes ? this.notes[k] : 0];
      const lines = [["span", `${payload.a[i]}  ×  ${payload.b[j]}`]];
      if (!Number.isNaN(value)) lines.push(["b", exact(value)]);
      if (payload.block > 1) lines.push(["faint", `mean of up to ${payload.block} × ${payload.block} pairs`]);
      if (this.errors && !Number.isNaN(this.errors[k])) lines.push(["span", `standard error: ${Number(this.errors[k].toPrecision(2))}`]);
      if (this.levels && !Number.isNaN(this.levels[k])) lines.push(["span", `unrelated data: ${Number(this.levels[k].toPrecision(3))}`]);
      if (note) lines.push(["faint", note]);
      return lines;
    }
  }

  // ---- curves ------------------------------------------------------------------------------------------------------

  const node = (name, attributes, parent, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return parent ? parent.appendChild(made) : made;
  };

  function ticks(low, high) {
    const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9; k++) found.push(Number((k * step).toPrecision(12)));
    return found;
  }

  function drawPanel(panel, curve, series) {
    const svg = panel.querySelector("svg"), W = Math.max(panel.clientWidth, 240), layers = curve.layers, H = 230;
    const longest = layers.reduce((most, n) => Math.max(most, Math.min(n.length, 26)), 0) * 6.4;
    const left = clamp(longest * 0.7 - 16, 48, W * 0.3);
    const step = Math.ceil((18 * layers.length) / (W - left - 14)), flat = longest < (W - left - 14) / layers.length - 6;
    const height = H + 14 + (flat ? 14 : longest * 0.72 + 10);
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${W} ${height}`);
    const known = series.flatMap((s) => [...s.values, ...s.levels]).filter((x) => x !== null);
    if (!known.length) return;
    let [low, high] = [Math.min(...known), Math.max(...known)];
    const pad = Math.max(0.06 * (high - low), 0.01 * Math.max(Math.abs(high), 1e-9));
    [low, high] = [low - pad, high + pad];
    const x = (k) => left + 8 + (layers.length < 2 ? 0.5 : k / (layers.length - 1)) * (W - left - 22);
    const y = (v) => H - 6 - ((v - low) / (high - low)) * (H - 16);
    for (const t of ticks(low, high)) {
      node("line", { class: "grid", x1: left, x2: W - 4, y1: y(t), y2: y(t) }, svg);
      node("text", { x: left - 8, y: y(t) + 4, "text-anchor": "end" }, svg, String(t));
    }
    const short = (n) => (n.length > 26 ? `${n.slice(0, 11)}…${n.slice(-14)}` : n);
    for (let k = 0; k < layers.length; k += step) {
      const place = flat ? { x: x(k), y: H + 16, "text-anchor": "middle" } : { "text-anchor": "end", transform: `translate(${x(k) + 4} ${H + 12}) rotate(-45)` };
      node("text", place, svg, short(layers[k]));
    }
    const path = (v) => v.map((q, k) => (q === null ? "" : `${k && v[k - 1] !== null ? "L" : "M"}${x(k).toFixed(1)} ${y(q).toFixed(1)}`)).join("");
    for (const s of series) {
      node("path", { class: "level", d: path(s.levels), stroke: s.colour }, svg);
      node("path", { class: "line", d: path(s.values), stroke: s.colour }, svg);
      if (layers.length <= 60) s.values.forEach((q, k) => q !== null && node("circle", { cx: x(k), cy: y(q), r: 3.2, fill: s.colour }, svg));
    }
    const cursor = node("line", { class: "cursor", y1: 4, y2: H, visibility: "hidden" }, svg);
    svg.onpointerleave = () => { cursor.setAttribute("visibility", "hidden"); hideTip(); };
    svg.onpointermove = (e) => {
      const around = svg.getBoundingClientRect();
      const k = clamp(Math.round(((e.clientX - around.left - left - 8) / (W - left - 22)) * (layers.length - 1)) || 0, 0, layers.length - 1);
      for (const end of ["x1", "x2"]) cursor.setAttribute(end, x(k));
      cursor.setAttribute("visibility", "visible");
      showTip(e.clientX, e.clientY, [["b", layers[k]], ...series.map((s) => {
        const partner = s.partners[k] === layers[k] ? "" : `  (with ${s.partners[k]})`;
        const level = s.levels[k] === null ? "" : `, unrelated data: ${Number(s.levels[k].toPrecision(3))}`;
        return ["span", `${s.label}: ${s.values[k] === null ? "no value" : s.values[k]}${level}${partner}`, s.colour];
      })]);
    };
  }

  {
    const curve = payload.curve;
    const section = document.getElementById("layers"), chips = section.querySelector(".chips"), panels = [...section.querySelectorAll(".panel")];
    const visible = new Set(curve.series.slice(0, LINES.length));
    const drawAll = () => panels.forEach((p) => {
      const shown = curve.series.filter((s) => s.group === p.dataset.group && visible.has(s));
      p.hidden = !shown.length;
      if (shown.length) drawPanel(p, curve, shown);
    });
    curve.series.forEach((s, k) => {
      s.colour = LINES[k % LINES.length];
      const chip = chips.appendChild(document.createElement("button"));
      chip.type = "button";
      chip.textContent = s.label;
      chip.style.setProperty("--colour", s.colour);
      chip.setAttribute("aria-pressed", visible.has(s));
      chip.onclick = () => {
        if (!visible.delete(s)) visible.add(s);
        chip.setAttribute("aria-pressed", visible.has(s));
        drawAll();
      };
    });
    new ResizeObserver(drawAll).observe(section);
  }

  // ---- start -------------------------------------------------------------------------------------------------------

  const numbers = payload.bytes === 8 ? Float64Array : Float32Array;
  const matrices = await Promise.all(payload.matrices.map(async (spec, k) => new Matrix(document.getElementById(`matrix-${k}`), spec, {
    values: await unpack(spec.values, numbers), notes: await unpack(spec.notes, Uint32Array), levels: await unpack(spec.levels, Float32Array),
    errors: await unpack(spec.errors, Float32Array),
  })));
  const paintScales = (scale) => document.querySelectorAll(".scale").forEach((line, k) => {
    const { low, high, stops } = payload.matrices[k].scales[scale], [from, bar, to] = line.children;
    [from.textContent, to.textContent] = [low, high].map((x) => String(Number(x.toPrecision(4))));
    bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  });
  paintScales("range");
  const choice = document.querySelector(".switch");
  choice.hidden = false;
  choice.onclick = (event) => {
    const scale = event.target.dataset.scale;
    if (!scale) return;
    choice.querySelectorAll("button").forEach((b) => b.setAttribute("aria-pressed", b === event.target));
    paintScales(scale);
    matrices.forEach((m) => m.setScale(scale));
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => matrices.forEach((m) => m.draw()));
})();
