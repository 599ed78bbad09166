// Thousands of filters on one page: a sheet with all of them, of which the cells in sight are drawn.
"use strict";
(() => {
  const root = document.getElementById("filters"), wall = document.getElementById("wall"), canvas = document.getElementById("canvas");
  const order = document.getElementById("order"), size = document.getElementById("size"), pixels = document.getElementById("pixels");
  const peek = document.getElementById("peek"), waiting = document.getElementById("waiting");
  const context = canvas.getContext("2d");
  const layer = root.dataset.layer, kind = root.dataset.kind, GAP = 4, EVERY_MS = 900;
  let known = null, sheet = null, shown = [], columns = 1, cell = 52, here = -1, asked = "", ratio = 1, drawing = false;

  const number = (value, digits = 3) => value === null || value === undefined ? "–" : Number(value).toLocaleString("en", { maximumSignificantDigits: digits });

  async function ask() {
    let told;
    try { told = await striate.json("/api/units?layer=" + encodeURIComponent(layer)); }
    catch (error) { waiting.textContent = error.message; setTimeout(ask, 3 * EVERY_MS); return; }
    known = told;
    const busy = told.jobs.filter((job) => job.state === "running" || job.state === "waiting");
    const failed = told.jobs.find((job) => job.state === "failed");
    waiting.textContent = busy.length ? busy.map((job) => job.says + (job.share === null ? "" : " " + striate.percent(job.share))).join("; ") + " …" : failed ? failed.error : "\u00a0";
    load();
    counts();
    arrange();
    if (busy.length) setTimeout(ask, EVERY_MS);
  }

  function load() {
    if (!known.sheet) return;
    const address = `/wall.png?layer=${encodeURIComponent(layer)}` + (pixels && pixels.checked ? "&space=pixels" : "");
    if (address === asked) return;
    asked = address;
    const image = new Image();
    image.onload = () => { if (address === asked) { sheet = image; draw(); root.dataset.drawn = "1"; } };
    image.onerror = () => { if (address === asked) asked = ""; };
    image.src = address;
  }

  function counts() {
    if (!known.kind) return;
    for (const place of document.querySelectorAll("[data-count]")) {
      const of = Number(place.dataset.count);
      place.textContent = " " + striate.percent(known.kind.filter((one) => one === of).length / known.kind.length);
    }
  }

  function arrange() {
    const chosen = new Set([...document.querySelectorAll("#kinds input:checked")].map((box) => Number(box.value)));
    const by = order.value;
    shown = Array.from({ length: known.units }, (_, unit) => unit);
    if (known.kind) shown = shown.filter((unit) => chosen.has(known.kind[unit]));
    if (known[by]) {
      const last = (value) => value === null || value === undefined ? Infinity : by === "kind" || by === "orientation" || by === "frequency" ? value : -value;
      shown.sort((a, b) => last(known[by][a]) - last(known[by][b]) || a - b);
    }
    layOut();
  }

  function layOut() {
    cell = Number(size.value);
    columns = Math.max(1, Math.floor((wall.clientWidth + GAP) / (cell + GAP)));
    const rows = Math.ceil(shown.length / columns);
    wall.style.height = rows * (cell + GAP) + "px";
    draw();
  }

  function draw() {
    if (drawing) return;
    drawing = true;
    requestAnimationFrame(() => { drawing = false; paint(); });
  }

  function paint() {
    ratio = window.devicePixelRatio || 1;
    const width = wall.clientWidth, height = Math.min(window.innerHeight, wall.clientHeight);
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.height = height + "px";
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!known || !sheet) return;
    // How far the sticky canvas has slid down its wall.
    const slid = canvas.getBoundingClientRect().top - wall.getBoundingClientRect().top;
    const [tall, broad] = known.side;
    context.imageSmoothingEnabled = cell < Math.max(tall, broad);
    const first = Math.max(0, Math.floor(slid / (cell + GAP))), last = Math.ceil((slid + height) / (cell + GAP));
    const accent = getComputedStyle(document.documentElement).getPropertyValue("--accent");
    for (let place = first * columns; place < Math.min(shown.length, last * columns); place++) {
      const unit = shown[place], x = (place % columns) * (cell + GAP), y = Math.floor(place / columns) * (cell + GAP) - slid;
      context.globalAlpha = known.silent && known.silent[unit] ? 0.3 : 1;
      context.drawImage(sheet, (unit % known.columns) * broad, Math.floor(unit / known.columns) * tall, broad, tall, x, y, cell, cell);
      if (place === here) {
        context.globalAlpha = 1;
        context.strokeStyle = accent;
        context.lineWidth = 3;
        context.strokeRect(x + 1.5, y + 1.5, cell - 3, cell - 3);
      }
    }
    context.globalAlpha = 1;
  }

  function tell() {
    if (here < 0 || here >= shown.length) { peek.textContent = "\u00a0"; return; }
    const unit = shown[here], parts = [`${kind} ${unit}`];
    if (known.kind) {
      parts.push(known.kinds[known.kind[unit]]);
      if (known.kind[unit] === 0) parts.push(`${Math.round(known.orientation[unit] * 180 / Math.PI)}°, ${number(1 / known.frequency[unit], 2)} pixels a wave`);
    }
    if (known.mean) parts.push(known.silent[unit] ? "never varies" : `mean activity ${number(known.mean[unit])}, sparseness ${number(known.sparseness[unit], 2)}`);
    peek.textContent = parts.join(" · ");
  }

  function at(event) {
    const box = wall.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / (cell + GAP)), row = Math.floor((event.clientY - box.top) / (cell + GAP));
    const place = row * columns + column;
    return column < columns && place >= 0 && place < shown.length ? place : -1;
  }

  const open = () => { if (here >= 0) location.href = `/unit?layer=${encodeURIComponent(layer)}&unit=${shown[here]}`; };
  wall.addEventListener("pointermove", (event) => { const place = at(event); if (place !== here) { here = place; tell(); draw(); } });
  wall.addEventListener("pointerleave", () => { if (document.activeElement !== wall) { here = -1; tell(); draw(); } });
  wall.addEventListener("click", (event) => { here = at(event); open(); });
  wall.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    if (event.key === "Enter") { open(); return; }
    if (by === undefined) return;
    event.preventDefault();
    here = Math.min(shown.length - 1, Math.max(0, here < 0 ? 0 : here + by));
    const y = wall.getBoundingClientRect().top + Math.floor(here / columns) * (cell + GAP);
    if (y < 60) window.scrollBy(0, y - 60); else if (y + cell > window.innerHeight - 50) window.scrollBy(0, y + cell - window.innerHeight + 50);
    tell();
    draw();
  });
  document.getElementById("layer").addEventListener("change", (event) => { location.href = "/filters?layer=" + encodeURIComponent(event.target.value); });
  order.addEventListener("change", arrange);
  size.addEventListener("input", layOut);
  if (pixels) pixels.addEventListener("change", load);
  for (const box of document.querySelectorAll("#kinds input")) box.addEventListener("change", arrange);
  window.addEventListener("scroll", draw, { passive: true });
  window.addEventListener("resize", layOut);
  ask();
})();
