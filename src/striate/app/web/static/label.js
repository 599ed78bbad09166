// The grid: a key press marks the picture and moves on at once; answers go out behind it and are kept here until the server
// says that they are on disk. What is not acknowledged is sent again, with the same token, so that nothing counts twice.
"use strict";
(() => {
  const work = document.getElementById("work");
  const name = work.dataset.class, stage = work.dataset.stage;
  const byId = (id) => document.getElementById(id);
  const grid = byId("grid"), order = byId("order"), wide = byId("wide"), trouble = byId("trouble"), message = byId("message");
  const PAGE = 40, OUTBOX = "striate-outbox", REFUSED = "striate-refused", RETRY_MS = 1500;
  const verbs = { keep: "keep", reject: "reject", ask: "ask" };

  let cells = [];            // {picture, answer, element} of this page
  let here = 0;              // the one under the cursor
  let next = null;           // a promise of the page after this one
  let history = [];          // positions answered, to undo
  let since = performance.now();
  let sending = false;
  let outbox = JSON.parse(localStorage.getItem(OUTBOX) || "[]");
  let left = 0;
  let refused = "";          // what the server would not take, to be read
  let generation = 0;        // of the order chosen: pages asked for under another one are thrown away

  const labeller = () => (localStorage.getItem("striate-labeller") || "").trim();
  const newToken = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

  // Answers out -------------------------------------------------------------------------------------------------------
  function keepOutbox() { localStorage.setItem(OUTBOX, JSON.stringify(outbox)); }

  async function flush() {
    if (sending || outbox.length === 0) return;
    sending = true;
    const who = outbox[0];
    const same = outbox.filter((one) => one.labeller === who.labeller && one.class === who.class && one.stage === who.stage).slice(0, 200);
    try {
      const answer = await fetch("/api/decide", {
        method: "POST", headers: { "content-type": "application/json" },
        body: JSON.stringify({ labeller: who.labeller, class: who.class, stage: who.stage, decisions: same.map(({ token, position, answer, seconds }) => ({ token, position, answer, seconds })) }),
      });
      const told = await answer.json().catch(() => ({ error: "the server answered with no reason (" + answer.status + ")" }));
      if (answer.ok) {
        const done = new Set(same.map((one) => one.token));
        outbox = outbox.filter((one) => !done.has(one.token));
        keepOutbox();
        tell("");
        if (who.class === name && who.stage === stage) showTally(told.tally);
      } else if (answer.status === 400) {
        // Nothing that trying again would mend, and what comes after must not wait for it: put aside, and said.
        const done = new Set(same.map((one) => one.token));
        localStorage.setItem(REFUSED, JSON.stringify([...JSON.parse(localStorage.getItem(REFUSED) || "[]"), ...same]));
        outbox = outbox.filter((one) => !done.has(one.token));
        keepOutbox();
        refused = same.length + " answers were refused: " + told.error;
        tell("");
      } else if (answer.status === 409) {
        // The store is another one: answers stay here until the person has read why.
        tell("Not saved: " + told.error);
        sending = false;
        return;
      } else {
        tell("Not saved yet: " + told.error + ". Trying again.");
        sending = false;
        setTimeout(flush, RETRY_MS);
        return;
      }
    } catch (error) {
      tell("The server does not answer. " + outbox.length + " answers are kept here and sent when it is back.");
      sending = false;
      setTimeout(flush, RETRY_MS);
      return;
    }
    sending = false;
    if (outbox.length) flush();
  }

  function tell(text) {
    trouble.textContent = text || refused;
    trouble.hidden = trouble.textContent === "";
  }

  function send(position, answer) {
    const now = performance.now();
    outbox.push({ token: newToken(), labeller: labeller(), class: name, stage, position, answer, seconds: (now - since) / 1000 });
    since = now;
    keepOutbox();
    flush();
  }

  function showTally(tally) {
    if (!tally) return;
    left = tally.left;
    const count = (value) => value.toLocaleString("en");
    byId("tally").textContent = count(tally.keep) + " kept, " + count(tally.reject) + " rejected" + (tally.ask ? ", " + count(tally.ask) + " asked" : "") + (stage === "first" ? ", " + count(left) + " left" : "");
  }

  // Pages in ----------------------------------------------------------------------------------------------------------
  async function ask(shown, fresh) {
    // What was answered and is not acknowledged yet must not come again.
    const beside = [...shown, ...outbox.filter((one) => one.class === name && one.stage === stage && one.answer !== "undo").map((one) => one.position)];
    const query = new URLSearchParams({ class: name, stage, labeller: labeller(), count: PAGE, order: order ? order.value : "found", wide: wide && wide.checked ? "1" : "0", beside: beside.join(","), fresh: fresh ? "1" : "0" });
    const answer = await fetch("/api/page?" + query);
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error || "no page");
    return told;
  }

  async function turn(fresh) {
    const mine = generation;
    let told;
    try {
      told = next ? await next : await ask([], fresh === true);
      if (told.pictures.length === 0 && next) told = await ask([]);
    } catch (error) {
      if (mine === generation) { tell(String(error.message || error) + " Trying again."); next = null; setTimeout(() => turn(fresh), RETRY_MS); }
      return;
    }
    if (mine !== generation) return;
    showTally(told.tally);
    fill(told.pictures.map((picture) => ({ picture, answer: null })));
    prefetch();
  }

  function prefetch() {
    next = ask(cells.map((cell) => cell.picture.position));
    next.catch(() => {});
  }

  function fill(pictures) {
    cells = pictures;
    here = 0;
    since = performance.now();
    grid.replaceChildren(...cells.map((cell, number) => {
      const element = document.createElement("button");
      element.className = "cell";
      element.type = "button";
      element.tabIndex = -1;
      element.setAttribute("role", "option");
      element.dataset.position = cell.picture.position;
      if (cell.picture.image) {
        const image = document.createElement("img");
        image.src = cell.picture.image;
        image.alt = cell.picture.term;
        image.draggable = false;
        element.append(image);
      } else {
        const none = document.createElement("span");
        none.className = "none";
        none.textContent = "cannot be shown";
        element.append(none);
      }
      element.addEventListener("click", () => { answer(number, cell.answer === "keep" ? "reject" : "keep"); });
      element.addEventListener("contextmenu", (event) => { event.preventDefault(); answer(number, "reject"); });
      cell.element = element;
      if (cell.answer) element.classList.add(cell.answer);
      return element;
    }));
    message.hidden = cells.length > 0;
    if (cells.length === 0) {
      message.textContent = labeller() === "" ? "Say who you are first (above)." : left > 0 && stage === "first" ? "What is left is on other labellers' pages: look again in a while." : "Nothing is left to look at here.";
      byId("large").removeAttribute("src");
      byId("caption").textContent = "";
    }
    move(0);
  }

  function move(to) {
    if (cells.length === 0) return;
    const cell = cells[Math.max(0, Math.min(cells.length - 1, to))];
    if (cells[here]) cells[here].element.classList.remove("here");
    here = cells.indexOf(cell);
    cell.element.classList.add("here");
    cell.element.scrollIntoView({ block: "nearest" });
    if (cell.picture.image) byId("large").src = cell.picture.image; else byId("large").removeAttribute("src");
    const term = cell.picture.term ? "found under “" + cell.picture.term + "”" : "";
    byId("caption").textContent = [term, ...(cell.picture.said || [])].filter(Boolean).join(" · ");
  }

  // Deciding ----------------------------------------------------------------------------------------------------------
  function mark(cell, answer) {
    cell.element.classList.remove("keep", "reject", "ask");
    cell.answer = answer;
    if (answer) cell.element.classList.add(answer);
  }

  function decide(answer) {
    const cell = cells[here];
    if (!cell || labeller() === "") { message.hidden = false; message.textContent = "Say who you are first (above)."; return; }
    mark(cell, answer);
    history.push(cell.picture);
    send(cell.picture.position, answer);
    const after = [...cells.slice(here + 1), ...cells.slice(0, here)].find((one) => one.answer === null);
    if (after) move(cells.indexOf(after)); else turn();
  }

  function answer(number, given) {
    const cell = cells[number];
    move(number);
    if (labeller() === "") return;
    mark(cell, given);
    history.push(cell.picture);
    send(cell.picture.position, given);
  }

  function rest(answer) {
    for (const cell of cells) if (cell.answer === null) { mark(cell, answer); history.push(cell.picture); send(cell.picture.position, answer); }
    turn();
  }

  async function undo() {
    if (labeller() === "") return;
    let picture = history.pop();
    if (!picture) {
      const query = new URLSearchParams({ class: name, stage, labeller: labeller() });
      picture = (await (await fetch("/api/last?" + query)).json().catch(() => ({}))).picture;
      if (!picture) return;
    }
    send(picture.position, "undo");
    const cell = cells.find((one) => one.picture.position === picture.position);
    if (cell) { mark(cell, null); move(cells.indexOf(cell)); return; }
    // It was on an earlier page: it comes back in front of this one.
    fill([{ picture, answer: null }, ...cells.map((one) => ({ picture: one.picture, answer: one.answer }))]);
  }

  function leave() { next = null; turn(); }

  async function zoom() {
    const cell = cells[here];
    if (!cell) return;
    byId("zoomed").src = "/picture/" + cell.picture.position;
    byId("zoom").showModal();
  }

  function columns() {
    if (cells.length < 2) return 1;
    const top = cells[0].element.offsetTop;
    const count = cells.findIndex((cell) => cell.element.offsetTop > top);
    return count < 1 ? cells.length : count;
  }

  const doing = {
    keep: () => decide(verbs.keep), reject: () => decide(verbs.reject), ask: () => decide(verbs.ask), undo, next: leave,
    left: () => move(here - 1), right: () => move(here + 1), up: () => move(here - columns()), down: () => move(here + columns()),
    zoom, sheet: () => byId("sheet").showModal(), keepRest: () => rest(verbs.keep), rejectRest: () => rest(verbs.reject),
  };
  const keys = {
    " ": "keep", 1: "keep", x: "reject", 2: "reject", a: "ask", 3: "ask", u: "undo", Backspace: "undo", Enter: "next", z: "zoom", i: "sheet", "?": "sheet",
    ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", K: "keepRest", X: "rejectRest",
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input:not([type=checkbox]), select, textarea");
    const open = document.querySelector("dialog[open]");
    if (open && (event.key === "z" || event.key === "i")) { open.close(); event.preventDefault(); return; }
    if (typing || open || !(event.key in keys)) return;
    event.preventDefault();
    doing[keys[event.key]]();
  });
  byId("large").addEventListener("click", zoom);
  byId("zoom").addEventListener("click", () => byId("zoom").close());
  byId("help").addEventListener("click", doing.sheet);
  for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", () => doing[button.dataset.do]());
  function again() { generation += 1; next = null; turn(true); }
  for (const control of [order, wide]) if (control) control.addEventListener("change", () => { control.blur(); again(); });
  document.addEventListener("striate-labeller", () => { history = []; document.activeElement.blur(); again(); });
  window.addEventListener("beforeunload", (event) => { if (outbox.length) event.preventDefault(); });

  flush();
  if (labeller() === "") fill([]); else turn();
})();
