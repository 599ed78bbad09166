// Replicas on the first page: one line each of their rates, who is there, staleness, what shards have to do, who came and went.
"use strict";
(() => {
  const EVERY_MS = 2000, WIDTH = 440, HEIGHT = 190, LEFT = 6, TOP = 12, BOTTOM = 22, BARS = 24;
  const RATE = /^images_per_s_(\d+)$/;
  const section = document.getElementById("replicas");
  if (!section) return;
  const part = (id) => document.getElementById("crew-" + id);
  const element = striate.element;
  const number = (value, digits = 3) => typeof value === "number" ? value.toLocaleString("en", { maximumSignificantDigits: digits }) : "–";
  const bytes = (value) => value >= 1e9 ? number(value / 1e9) + " GB" : value >= 1e6 ? number(value / 1e6) + " MB" : number(value / 1e3) + " kB";

  function shape(name, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function table(place, heads, rows) {
    const cells = (kind, row) => element("tr", {}, ...row.map((text) => element(kind, { text })));
    place.replaceChildren(element("thead", {}, cells("th", heads)), element("tbody", {}, ...rows.map((row) => cells("td", row))));
  }

  function rates(lines) {
    const places = [...new Set(lines.flatMap((line) => Object.keys(line).filter((name) => RATE.test(name))))]
      .sort((one, other) => RATE.exec(one)[1] - RATE.exec(other)[1]);
    const svg = part("rates");
    svg.replaceChildren();
    part("key").replaceChildren();
    if (places.length === 0) return;
    let high = 0;
    for (const line of lines) for (const name of places) high = Math.max(high, line[name] || 0);
    const from = lines[0].step, to = lines[lines.length - 1].step;
    const x = (step) => LEFT + (WIDTH - 2 * LEFT) * (to === from ? 0.5 : (step - from) / (to - from));
    const y = (value) => HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (high ? value / high : 0);
    svg.append(shape("line", { class: "axis", x1: LEFT, x2: WIDTH - LEFT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }));
    places.forEach((name, at) => {
      let path = "", drawing = false;
      for (const line of lines) {
        // Where it was not there its line has a gap.
        const there = typeof line[name] === "number";
        if (there) path += (drawing ? "L" : "M") + x(line.step).toFixed(1) + " " + y(line[name]).toFixed(1);
        drawing = there;
      }
      svg.append(shape("path", { class: "curve replica-" + at % 6, d: path, "stroke-linecap": "round" }));
      part("key").append(element("span", { class: "replica-" + at % 6, text: RATE.exec(name)[1] }));
    });
    svg.append(
      shape("text", { x: LEFT, y: TOP }, number(high)), shape("text", { x: LEFT, y: HEIGHT - 6 }, "step " + from.toLocaleString("en")),
      shape("text", { x: WIDTH - LEFT, y: HEIGHT - 6, "text-anchor": "end" }, to.toLocaleString("en")),
    );
    svg.setAttribute("aria-label", `images a second of ${places.length} replicas, at most ${number(high)}`);
  }

  function staleness(counts) {
    const svg = part("staleness"), known = Object.entries(counts).map(([value, count]) => [Number(value), count]);
    svg.replaceChildren();
    const all = known.reduce((sum, [, count]) => sum + count, 0);
    part("staleness-mean").textContent = all ? `mean ${number(known.reduce((sum, [value, count]) => sum + value * count, 0) / all)} of ${all.toLocaleString("en")} pushes` : "no push yet";
    if (!all) return;
    const most = Math.max(...known.map(([value]) => value)), last = Math.min(most, BARS - 1), bars = new Array(last + 1).fill(0);
    for (const [value, count] of known) bars[Math.min(value, last)] += count;
    const wide = Math.min(40, (WIDTH - 2 * LEFT) / bars.length), top = Math.max(...bars);
    bars.forEach((count, at) => {
      const tall = (HEIGHT - BOTTOM - TOP) * count / top;
      const bar = shape("rect", { x: LEFT + at * wide + 1, y: HEIGHT - BOTTOM - tall, width: wide - 2, height: tall });
      bar.append(shape("title", {}, `${at}${at === last && most > last ? " and more" : ""}: ${count.toLocaleString("en")}`));
      svg.append(bar);
      if (bars.length <= 12 || at % 4 === 0) svg.append(shape("text", { x: LEFT + (at + 0.5) * wide, y: HEIGHT - 6, "text-anchor": "middle" }, at + (at === last && most > last ? "+" : "")));
    });
    svg.setAttribute("aria-label", `staleness of pushes, from 0 to ${most}`);
  }

  function visit(one) {
    const went = one.left_s === null || one.left_s === undefined ? "" : `${one.how} at step ${one.left_step.toLocaleString("en")}`;
    return [one.replica.split(".")[0], one.machine, `step ${one.joined_step.toLocaleString("en")}, ${number(one.joined_s)} s`, went];
  }

  function draw(told) {
    part("wanted").textContent = told.wanted ? told.wanted.replace(":", " to ") + " wanted" : "";
    const share = (value) => typeof value === "number" ? striate.percent(value) : "–";
    part("now-card").hidden = told.replicas.length === 0;
    table(part("now"), ["replica", "", "machine", "images/s", "waits"], told.replicas.map((one) =>
      [String(one.place), one.stage, one.machine || "", number(one.images_per_s), share(one.waiting_share)]));
    part("shards-card").hidden = told.shards.length === 0;
    table(part("shards"), ["shard", "busy", "pushes/s", "in", "out"], told.shards.map((one, at) =>
      [String(at), share(one.busy), number(one.pushes_per_s), bytes(one.in_bytes_per_s || 0) + "/s", bytes(one.out_bytes_per_s || 0) + "/s"]));
    staleness(told.staleness);
    const lost = told.lost, say = (count, one, many) => count ? [`${count.toLocaleString("en")} ${count === 1 ? one : many}`] : [];
    part("lost").textContent = [
      ...say(lost.replicas_lost, "lost replica", "lost replicas"), ...say(lost.machines_left, "gone with its machine", "gone with their machines"),
      ...say(lost.minibatches_redone, "minibatch handed out again", "minibatches handed out again"),
      ...say(lost.lost, "lost push", "lost pushes"), ...say(lost.refused, "refused push", "refused pushes"),
    ].join(", ") || "Nothing was lost.";
    table(part("visits"), ["replica", "machine", "joined", "went"], told.visits.slice().reverse().map(visit));
  }

  async function ask() {
    let told = null;
    try { told = await striate.json("/api/crew"); } catch { /* Asked again below. */ }
    if (told) draw(told);
    const running = document.getElementById("status").classList.contains("running");
    if (running || !told) setTimeout(ask, document.hidden ? 5 * EVERY_MS : EVERY_MS);
  }

  document.addEventListener("striate-lines", (event) => rates(event.detail));
  ask();
})();
