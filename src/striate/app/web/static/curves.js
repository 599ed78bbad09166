// A run's curves, one for each number of metrics.jsonl, drawn anew as lines are added.
"use strict";
(() => {
  const EVERY_MS = 2000, WIDTH = 320, HEIGHT = 150, LEFT = 6, TOP = 10, BOTTOM = 22, ASIDE = new Set(["step", "epoch", "seconds"]);
  const NAMES = {
    loss: "loss, nats", error: "training pictures named wrongly", validation_error: "held-out pictures named wrongly",
    reconstruction_error: "reconstruction error", hidden_activity: "mean activity", update_ratio: "update beside weights",
    weight_rms: "size of the weights", dead: "share of dead units", always_on: "share of units always on",
  };
  const root = document.getElementById("overview"), place = document.getElementById("curves");
  const SVG = "http://www.w3.org/2000/svg";
  let lines = [], end = 0, cards = new Map();

  function shape(name, attributes) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function short(value) {
    if (value === null || value === undefined) return "–";
    if (value !== 0 && (Math.abs(value) < 0.001 || Math.abs(value) >= 1e6)) return value.toExponential(1);
    return value.toLocaleString("en", { maximumSignificantDigits: 3 });
  }

  function card(name) {
    if (cards.has(name)) return cards.get(name);
    const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    const parts = {
      svg, path: shape("path", { class: "curve" }), cursor: shape("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" }),
      low: shape("text", { x: LEFT, y: HEIGHT - BOTTOM - 3 }), high: shape("text", { x: LEFT, y: TOP + 9 }),
      first: shape("text", { x: LEFT, y: HEIGHT - 6 }), last: shape("text", { x: WIDTH - 6, y: HEIGHT - 6, "text-anchor": "end" }),
      value: striate.element("b", { class: "value" }), title: striate.element("h3", { text: NAMES[name] || name.replaceAll("_", " ") }),
    };
    svg.append(shape("line", { class: "axis", x1: LEFT, x2: WIDTH - 6, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }), parts.path, parts.cursor, parts.low, parts.high, parts.first, parts.last);
    place.append(striate.element("section", { class: "card curve-card" }, striate.element("header", {}, parts.title, parts.value), svg));
    svg.addEventListener("pointermove", (event) => read(name, event));
    svg.addEventListener("pointerleave", () => { parts.cursor.setAttribute("visibility", "hidden"); latest(name); });
    cards.set(name, parts);
    return parts;
  }

  function known(name) { return lines.filter((line) => typeof line[name] === "number"); }

  function latest(name) {
    const there = known(name);
    card(name).value.textContent = there.length ? short(there[there.length - 1][name]) : "–";
  }

  function read(name, event) {
    const there = known(name), parts = card(name);
    if (there.length === 0) return;
    const box = parts.svg.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width * WIDTH;
    const { x } = scales(there, name);
    const near = there.reduce((best, line) => Math.abs(x(line.step) - share) < Math.abs(x(best.step) - share) ? line : best);
    parts.cursor.setAttribute("x1", x(near.step));
    parts.cursor.setAttribute("x2", x(near.step));
    parts.cursor.setAttribute("visibility", "visible");
    parts.value.textContent = short(near[name]) + " at " + near.step.toLocaleString("en");
  }

  function scales(there, name) {
    const values = there.map((line) => line[name]);
    let low = Infinity, high = -Infinity;
    for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
    const from = there[0].step, to = there[there.length - 1].step;
    const x = (step) => LEFT + (WIDTH - LEFT - 6) * (to === from ? 0.5 : (step - from) / (to - from));
    const y = (value) => HEIGHT - BOTTOM - 4 - (HEIGHT - BOTTOM - TOP - 8) * (high === low ? 0.5 : (value - low) / (high - low));
    return { x, y, low, high, from, to };
  }

  function draw(name) {
    const there = known(name), parts = card(name);
    if (there.length === 0) return;
    const { x, y, low, high, from, to } = scales(there, name);
    parts.path.setAttribute("d", there.map((line, at) => (at ? "L" : "M") + x(line.step).toFixed(1) + " " + y(line[name]).toFixed(1)).join(""));
    parts.low.textContent = short(low);
    parts.high.textContent = short(high);
    parts.first.textContent = "step " + from.toLocaleString("en");
    parts.last.textContent = to.toLocaleString("en");
    parts.svg.setAttribute("aria-label", `${name.replaceAll("_", " ")}: from ${short(there[0][name])} to ${short(there[there.length - 1][name])}`);
    if (parts.cursor.getAttribute("visibility") === "hidden") latest(name);
  }

  function tiles() {
    const last = lines[lines.length - 1];
    const set = (id, text) => { document.getElementById(id).textContent = text; };
    set("tile-step", last ? last.step.toLocaleString("en") : "–");
    set("tile-epoch", last && typeof last.epoch === "number" ? last.epoch.toLocaleString("en", { maximumFractionDigits: 1 }) : "–");
    const seconds = last ? last.seconds : null;
    set("tile-seconds", typeof seconds !== "number" ? "–" : seconds < 120 ? seconds.toFixed(0) + " s" : seconds < 7200 ? (seconds / 60).toFixed(0) + " min" : (seconds / 3600).toFixed(1) + " h");
  }

  async function ask() {
    let told;
    try { told = await striate.json("/api/curves?from=" + end); } catch { setTimeout(ask, 2 * EVERY_MS); return; }
    if (told.again) lines = [];
    lines.push(...told.lines);
    end = told.end;
    document.getElementById("no-curves").hidden = lines.length > 0;
    const names = [...new Set(lines.flatMap((line) => Object.keys(line)))].filter((name) => !ASIDE.has(name) && !name.startsWith("images_per_s_"));
    if (told.lines.length || told.again) {
      names.forEach(draw);
      // Replicas' rates are one picture.
      document.dispatchEvent(new CustomEvent("striate-lines", { detail: lines }));
    }
    tiles();
    const pill = document.getElementById("status");
    pill.textContent = told.status;
    pill.className = "pill " + told.status;
    // The page was drawn without a model and there is one now: everything else is to be shown.
    if (told.model && root.dataset.model === "0") { location.reload(); return; }
    if (told.status === "running") {
      const sheet = document.getElementById("sheet");
      if (root.dataset.model === "0" && told.lines.length) sheet.src = "/sheet.png?step=" + lines[lines.length - 1].step;
      setTimeout(ask, document.hidden ? 5 * EVERY_MS : EVERY_MS);
    }
  }

  async function kinds() {
    const line = document.getElementById("kinds");
    if (!line.dataset.layer) return;
    const told = await striate.json("/api/units?layer=" + encodeURIComponent(line.dataset.layer));
    if (!told.kind) { setTimeout(kinds, 1000); return; }
    const count = (kind) => striate.percent(told.kind.filter((one) => one === kind).length / told.kind.length);
    line.textContent = `${told.kind.length.toLocaleString("en")} filters: ${count(0)} oriented edges, ${count(1)} points, ${count(2)} noise.`;
  }

  document.getElementById("sheet").addEventListener("error", (event) => { event.target.hidden = true; });
  ask();
  kinds().catch(() => {});
})();
