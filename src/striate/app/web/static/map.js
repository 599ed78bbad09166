// The map: points as pixels, pictures as one comes nearer, the chosen picture's true neighbours beside those on the map.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const root = byId("map"), canvas = byId("canvas");
  if (!canvas) return;
  const count = Number(root.dataset.pictures), SIDE = Number(root.dataset.side), COLUMNS = Number(root.dataset.columns), AT_ONCE = Number(root.dataset.atOnce);
  const SETTLE_MS = 140, EVERY_MS = 1500, KEPT_SHEETS = 24, THUMB = 40, NEIGHBOURS = 12, MARGIN = 0.04, STEP = 60;
  const GROUPS = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#edc948", "#76b7b2", "#ff9da7", "#9c755f", "#8cd17d", "#d37295", "#499894", "#b6992d", "#86bcb6", "#fabfd2", "#a0cbe8", "#d4a6c8", "#f1ce63", "#79706e", "#ffbe7d"];
  const RAMPS = { light: ["#d9dcdf", "#e8a33a", "#7a0f3c"], dark: ["#2e343b", "#b5622a", "#ffe9a8"] };
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  const dark = matchMedia("(prefers-color-scheme: dark)"), asked = new URLSearchParams(location.search);

  let points = null, colours = new Uint8Array(count).fill(255), palette = new Uint32Array(256), legend = { names: [] };
  let method = "pca", only = -1, view = { scale: 1, left: 0, top: 0 }, image = null, pixels = null, ratio = 1, background = 0, faint = 0;
  let thumbs = [], sheets = new Map(), settling = 0, chosen = -1, near = [], nearOnMap = [], hovered = -1, queued = false, hoverTimer = 0;
  let told = new Map(), keyboard = false, loading = new Set(), legendTimer = 0, choice = 0;

  // Colours -----------------------------------------------------------------------------------------------------------
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const packed = ([r, g, b]) => (255 << 24 | b << 16 | g << 8 | r) >>> 0;
  const between = (a, b, share) => a.map((value, at) => Math.round(value + (b[at] - value) * share));

  function paletteNow() {
    const page = rgb(style("--page")), soft = rgb(style("--soft"));
    background = packed(rgb(style("--card")));
    faint = packed(between(page, soft, 0.25));
    const ramp = RAMPS[dark.matches ? "dark" : "light"].map(rgb);
    for (let at = 0; at < 256; at++) {
      if (legend.names.length) palette[at] = packed(rgb(GROUPS[at % GROUPS.length]));
      else palette[at] = packed(at < 127 ? between(ramp[0], ramp[1], at / 127) : between(ramp[1], ramp[2], (at - 127) / 127));
    }
    palette[255] = packed(between(page, soft, 0.55));
  }

  // The view ----------------------------------------------------------------------------------------------------------
  function fit() {
    const width = canvas.clientWidth, height = canvas.clientHeight;
    const scale = Math.min(width, height) * (1 - 2 * MARGIN);
    view = { scale, left: 0.5 - width / 2 / scale, top: 0.5 - height / 2 / scale };
    moved();
  }

  function zoom(factor, x, y) {
    const least = Math.min(canvas.clientWidth, canvas.clientHeight) * 0.5;
    const scale = Math.min(4e5, Math.max(least, view.scale * factor));
    view = { scale, left: view.left + x / view.scale - x / scale, top: view.top + y / view.scale - y / scale };
    moved();
  }

  function pan(dx, dy) {
    view = { scale: view.scale, left: view.left - dx / view.scale, top: view.top - dy / view.scale };
    moved();
  }

  function moved() {
    draw();
    clearTimeout(settling);
    settling = setTimeout(settle, SETTLE_MS);
  }

  const toScreen = (i) => [(points.x[i] - view.left) * view.scale, (points.y[i] - view.top) * view.scale];

  // Drawing -----------------------------------------------------------------------------------------------------------
  function draw() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => { queued = false; paint(); });
  }

  function resize() {
    // A map of four million points of the screen gains nothing over one of a million.
    ratio = Math.min(window.devicePixelRatio || 1, 1.5);
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (image && image.width === width && image.height === height) return;
    canvas.width = width;
    canvas.height = height;
    image = context.createImageData(Math.max(1, width), Math.max(1, height));
    pixels = new Uint32Array(image.data.buffer);
  }

  function paint() {
    if (!image) return;
    pixels.fill(background);
    if (!points) { context.putImageData(image, 0, 0); return; }
    const closeness = view.scale / Math.min(canvas.clientWidth, canvas.clientHeight);
    const size = Math.max(1, Math.round(ratio * Math.min(7, (count > 20000 ? 1.6 : 3) * Math.max(1, closeness ** 0.35))));
    points.paint(pixels, image.width, image.height, { scale: view.scale * ratio, left: view.left, top: view.top }, size, colours, palette, only, faint);
    context.putImageData(image, 0, 0);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    pictures();
    marks();
    if (!root.dataset.drawn) { performance.mark("striate-map-drawn"); root.dataset.drawn = "1"; }
  }

  function pictures() {
    context.imageSmoothingEnabled = SIDE > THUMB;
    for (const i of thumbs) {
      const sheet = sheets.get(told.get(i));
      if (!sheet || !sheet.bitmap || (only >= 0 && colours[i] !== only)) continue;
      const [x, y] = toScreen(i), at = sheet.at.get(i);
      if (x < -THUMB || y < -THUMB || x > canvas.clientWidth + THUMB || y > canvas.clientHeight + THUMB) continue;
      const left = Math.round(x - THUMB / 2), top = Math.round(y - THUMB / 2);
      if (colours[i] !== 255) {
        const value = palette[colours[i]];
        context.fillStyle = `rgb(${value & 255},${value >> 8 & 255},${value >> 16 & 255})`;
        context.fillRect(left - 2, top - 2, THUMB + 4, THUMB + 4);
      }
      context.drawImage(sheet.bitmap, (at % COLUMNS) * SIDE, Math.floor(at / COLUMNS) * SIDE, SIDE, SIDE, left, top, THUMB, THUMB);
    }
  }

  function marks() {
    const ink = style("--ink"), accent = style("--accent");
    const ring = (i, radius, colour, width) => {
      const [x, y] = toScreen(i);
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.stroke();
    };
    if (chosen >= 0) {
      const [x, y] = toScreen(chosen);
      context.globalAlpha = 0.6;
      context.lineWidth = 1;
      context.strokeStyle = accent;
      for (const i of near) {
        const [nx, ny] = toScreen(i);
        context.beginPath();
        context.moveTo(x, y);
        context.lineTo(nx, ny);
        context.stroke();
      }
      context.globalAlpha = 1;
      for (const i of near) ring(i, 6, accent, 2);
      ring(chosen, 9, ink, 3);
    }
    if (hovered >= 0 && hovered !== chosen) ring(hovered, 6, ink, 2);
    if (keyboard && document.activeElement === canvas) {
      const x = canvas.clientWidth / 2, y = canvas.clientHeight / 2;
      context.strokeStyle = ink;
      context.lineWidth = 1;
      context.strokeRect(x - 9.5, y - 9.5, 19, 19);
    }
  }

  // Pictures on the map -----------------------------------------------------------------------------------------------
  // One picture for each square of the map that is as large as a picture; squares lie still while one moves about.
  function settle() {
    if (!points) return;
    const closeness = view.scale / Math.min(canvas.clientWidth, canvas.clientHeight);
    const pad = THUMB / view.scale, seen = [view.left - pad, view.top - pad, view.left + canvas.clientWidth / view.scale + pad, view.top + canvas.clientHeight / view.scale + pad];
    const enough = count <= 400 ? 0.9 : 2.4;
    thumbs = [];
    if (closeness >= enough) {
      const step = 2 ** Math.ceil(Math.log2((THUMB + 6) / view.scale)), taken = new Map();
      points.within(...seen, (i) => {
        if (only >= 0 && colours[i] !== only) return;
        const cell = Math.floor(points.x[i] / step) * 1e6 + Math.floor(points.y[i] / step);
        const held = taken.get(cell);
        if (held === undefined || i < held) taken.set(cell, i);
      });
      thumbs = [...taken.values()];
    }
    const missing = thumbs.filter((i) => !sheets.has(told.get(i)));
    for (let at = 0; at < missing.length; at += AT_ONCE) fetchSheet(missing.slice(at, at + AT_ONCE));
    root.dataset.thumbs = thumbs.length;
    draw();
  }

  async function fetchSheet(positions) {
    const name = positions.join(",");
    if (loading.has(name)) return;
    loading.add(name);
    const sheet = { bitmap: null, at: new Map(positions.map((i, at) => [i, at])) };
    sheets.set(name, sheet);
    for (const i of positions) told.set(i, name);
    try {
      const answer = await fetch("/atlas.png?at=" + name);
      if (!answer.ok) throw new Error("no pictures");
      sheet.bitmap = await createImageBitmap(await answer.blob());
      root.dataset.sheets = Number(root.dataset.sheets || 0) + 1;
    } catch { sheets.delete(name); }
    loading.delete(name);
    // The oldest that nothing in sight needs.
    const needed = new Set(thumbs.map((i) => told.get(i)));
    for (const key of [...sheets.keys()]) if (sheets.size > KEPT_SHEETS && !needed.has(key)) sheets.delete(key);
    draw();
  }

  // Hovering and choosing ---------------------------------------------------------------------------------------------
  function under(event) {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    for (const i of thumbs) {
      const [px, py] = toScreen(i);
      if (Math.abs(px - x) <= THUMB / 2 && Math.abs(py - y) <= THUMB / 2 && (only < 0 || colours[i] === only)) return i;
    }
    return points.nearest(view.left + x / view.scale, view.top + y / view.scale, 12 / view.scale);
  }

  function hover(i, x, y) {
    if (i === hovered) return;
    hovered = i;
    draw();
    clearTimeout(hoverTimer);
    const tip = byId("tip");
    if (i < 0) { tip.hidden = true; return; }
    hoverTimer = setTimeout(async () => {
      const [about] = await striate.json("/api/about?at=" + i).catch(() => [null]);
      if (!about || hovered !== i) return;
      const picture = tip.querySelector("img");
      picture.src = "/picture/" + i;
      picture.alt = about.key;
      tip.querySelector("p").replaceChildren(...(about.label || about.term ? [striate.element("b", { text: about.label || about.term }), striate.element("br")] : []), about.key);
      tip.hidden = false;
      const box = canvas.getBoundingClientRect(), wide = tip.offsetWidth, tall = tip.offsetHeight;
      tip.style.left = Math.max(4, Math.min(x + 16, box.width - wide - 4)) + "px";
      tip.style.top = Math.max(4, y + 16 + tall > box.height ? y - tall - 12 : y + 16) + "px";
    }, 60);
  }

  async function choose(i) {
    const mine = ++choice;
    chosen = i;
    near = [];
    nearOnMap = i < 0 ? [] : points.neighbours(i, NEIGHBOURS);
    draw();
    const panel = byId("chosen");
    if (i < 0) { panel.replaceChildren(hint); return; }
    let answer;
    try { answer = await striate.json(`/api/neighbours?at=${i}&count=${NEIGHBOURS}`); } catch (error) { trouble(error.message); return; }
    if (mine !== choice || answer.job) return;
    trouble("");
    near = answer.found.map((one) => one.position);
    const shared = nearOnMap.filter((one) => near.includes(one)).length;
    const about = await striate.json("/api/about?at=" + nearOnMap.join(",")).catch(() => []);
    if (mine !== choice) return;
    const strip = (pictures, marked) => {
      const made = striate.element("div", { class: "strip tiny" });
      for (const one of pictures) {
        const figure = striate.figure(one, one.score === undefined ? undefined : one.score.toFixed(2));
        if (marked.includes(one.position)) figure.classList.add("both");
        made.append(figure);
      }
      return made;
    };
    const head = striate.element("div", { class: "strip" }, striate.figure(answer.of));
    head.querySelector("figcaption").append(striate.element("br"), striate.element("small", { text: answer.of.key }));
    panel.replaceChildren(
      head, striate.element("h3", { text: "Truly nearest" }), strip(answer.found, nearOnMap),
      striate.element("h3", { text: "Nearest on this map" }), strip(about, near),
      striate.element("p", { class: "soft", text: `${shared} of ${near.length} are the same.` }),
      striate.element("a", { class: "button quiet", href: "/similar?at=" + i, text: "More like it" }),
    );
    root.dataset.chosen = i;
    root.dataset.choices = Number(root.dataset.choices || 0) + 1;
    draw();
  }
  const hint = byId("hint");

  function trouble(text) {
    byId("trouble").textContent = text;
    byId("trouble").hidden = text === "";
  }

  // What comes from the server ----------------------------------------------------------------------------------------
  async function bytes(address) {
    const answer = await fetch(address);
    if (answer.status === 409) return null;
    if (!answer.ok) { const why = await answer.json().catch(() => ({})); throw new Error(why.error || "the server answered " + answer.status); }
    return answer.arrayBuffer();
  }

  async function show(name) {
    const answer = await bytes("/map/points?method=" + name);
    if (!answer) return;
    points = new Points(new Uint16Array(answer));
    method = name;
    for (const button of document.querySelectorAll("[data-method]")) button.setAttribute("aria-pressed", String(button.dataset.method === name));
    fit();
    if (chosen >= 0) choose(chosen);
    keptLine();
  }

  const query = () => new URLSearchParams({ by: byId("by").value, ...(byId("by").value === "unit" ? { layer: byId("layer").value, unit: byId("unit").value || "0" } : {}) });

  async function colour() {
    clearTimeout(legendTimer);
    byId("which").hidden = byId("by").value !== "unit";
    const mine = String(query());
    try {
      const [answer, meaning] = await Promise.all([bytes("/map/colours?" + mine), striate.json("/api/legend?" + mine)]);
      if (mine !== String(query())) return;
      if (!answer || meaning.job) {
        byId("legend").textContent = meaning.job ? (meaning.job.error || meaning.job.says + " …") : "";
        if (!meaning.job || meaning.job.state !== "failed") legendTimer = setTimeout(colour, EVERY_MS);
        return;
      }
      colours = new Uint8Array(answer);
      legend = meaning;
      only = -1;
      trouble("");
      paletteNow();
      legendNow();
      draw();
    } catch (error) { trouble(error.message); }
  }

  function swatch(value) {
    const made = striate.element("canvas", { width: 12, height: 12, class: "swatch" }), pen = made.getContext("2d");
    pen.fillStyle = `rgb(${value & 255},${value >> 8 & 255},${value >> 16 & 255})`;
    pen.fillRect(0, 0, 12, 12);
    return made;
  }

  function legendNow() {
    const place = byId("legend");
    if (legend.names.length === 0) {
      const bar = striate.element("canvas", { width: 255, height: 1, class: "ramp" }), pen = bar.getContext("2d"), line = pen.createImageData(255, 1);
      new Uint32Array(line.data.buffer).set(palette.subarray(0, 255));
      pen.putImageData(line, 0, 0);
      const number = (value) => Number(value).toLocaleString("en", { maximumSignificantDigits: 3 });
      place.replaceChildren(bar, striate.element("span", { text: number(legend.low) }), striate.element("span", { text: number(legend.high) }));
      place.classList.add("answers");
      return;
    }
    place.classList.remove("answers");
    place.replaceChildren(...legend.names.map((one, at) => {
      const made = striate.element("button", { type: "button", class: "group", "aria-pressed": String(only === at), title: one.name }, swatch(palette[at]), striate.element("span", { text: one.name }), striate.element("small", { text: one.count.toLocaleString("en") }));
      made.addEventListener("click", () => { only = only === at ? -1 : at; for (const [n, other] of [...place.children].entries()) other.setAttribute("aria-pressed", String(n === only)); settle(); });
      return made;
    }));
  }

  let maps = {};
  function keptLine() {
    const kept = maps[method] && maps[method].kept;
    byId("kept").textContent = kept ? `Of a picture's ${kept.neighbours} true neighbours, this map puts ${(kept.share * kept.neighbours).toFixed(1)} among its ${kept.neighbours} nearest.` : "";
  }

  async function state() {
    let answer;
    try { answer = await striate.json("/api/map"); } catch (error) { trouble(error.message); setTimeout(state, 3 * EVERY_MS); return; }
    maps = answer.maps;
    let busy = false;
    for (const button of document.querySelectorAll("[data-method]")) {
      const job = maps[button.dataset.method];
      button.disabled = Boolean(job) && job.state !== "done";
      button.title = job && job.state === "failed" ? job.error : job ? "" : "asked for, it is drawn in the background: minutes for many pictures";
      button.querySelector(".much").textContent = job && (job.state === "running" || job.state === "waiting") ? " …" : "";
      busy = busy || Boolean(job && job.state !== "done" && job.state !== "failed");
    }
    keptLine();
    if (busy) setTimeout(state, EVERY_MS);
  }

  // Hands -------------------------------------------------------------------------------------------------------------
  const held = new Map();
  let gone = 0;
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); held.set(event.pointerId, [event.clientX, event.clientY]); gone = 0; keyboard = false; });
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect(), last = held.get(event.pointerId);
    if (!last) { if (points && event.pointerType === "mouse") hover(under(event), event.clientX - box.left, event.clientY - box.top); return; }
    const before = [...held.values()];
    held.set(event.pointerId, [event.clientX, event.clientY]);
    const after = [...held.values()], dx = event.clientX - last[0], dy = event.clientY - last[1];
    gone += Math.abs(dx) + Math.abs(dy);
    if (held.size === 1) pan(dx, dy);
    if (held.size === 2) {
      const apart = ([a, b]) => Math.hypot(a[0] - b[0], a[1] - b[1]), middle = ([a, b]) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
      const from = middle(before), to = middle(after);
      pan(to[0] - from[0], to[1] - from[1]);
      zoom(apart(after) / Math.max(1, apart(before)), to[0] - box.left, to[1] - box.top);
    }
    hover(-1);
  });
  canvas.addEventListener("pointerup", (event) => { const single = held.size === 1; held.delete(event.pointerId); if (points && single && gone < 5) choose(under(event)); });
  canvas.addEventListener("pointercancel", (event) => { held.delete(event.pointerId); });
  canvas.addEventListener("pointerleave", () => hover(-1));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = canvas.getBoundingClientRect(), lines = event.deltaMode === 1 ? 16 : 1;
    zoom(Math.exp(-Math.max(-120, Math.min(120, event.deltaY * lines)) * 0.0022), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  const middle = () => [canvas.clientWidth / 2, canvas.clientHeight / 2];
  const keys = {
    ArrowLeft: () => pan(STEP, 0), ArrowRight: () => pan(-STEP, 0), ArrowUp: () => pan(0, STEP), ArrowDown: () => pan(0, -STEP),
    "+": () => zoom(1.5, ...middle()), "=": () => zoom(1.5, ...middle()), "-": () => zoom(1 / 1.5, ...middle()), 0: fit, Escape: () => choose(-1),
    Enter: () => { const [x, y] = middle(); choose(points.nearest(view.left + x / view.scale, view.top + y / view.scale, 1)); },
  };
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key] || !points || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    keyboard = true;
    keys[event.key]();
  });
  canvas.addEventListener("focus", draw);
  canvas.addEventListener("blur", draw);
  byId("nearer").addEventListener("click", () => zoom(1.6, ...middle()));
  byId("further").addEventListener("click", () => zoom(1 / 1.6, ...middle()));
  byId("all").addEventListener("click", fit);
  byId("by").addEventListener("change", colour);
  byId("layer").addEventListener("change", colour);
  byId("unit").addEventListener("change", colour);
  for (const button of document.querySelectorAll("[data-method]")) button.addEventListener("click", async () => {
    try { await show(button.dataset.method); setTimeout(state, 100); } catch (error) { trouble(error.message); }
  });
  dark.addEventListener("change", () => { paletteNow(); if (points) legendNow(); draw(); });
  new ResizeObserver(() => { resize(); if (points) moved(); else draw(); }).observe(canvas);

  // Beginning ---------------------------------------------------------------------------------------------------------
  function begin() {
    show("pca").catch((error) => trouble(error.message));
    colour();
    state();
  }
  for (const name of ["by", "layer", "unit"]) if (asked.get(name)) byId(name).value = asked.get(name);
  if (!byId("by").value) byId("by").selectedIndex = 0;
  paletteNow();
  resize();
  draw();
  if (root.dataset.ready === "1") begin();
  else document.addEventListener("striate-done", begin);
})();
