// What the pages about a run share: answers of the server, work that is waited for, elements.
"use strict";
const striate = (() => {
  const EVERY_MS = 700;

  async function json(address, options) {
    let answer;
    try { answer = await fetch(address, options); } catch { throw new Error("The server does not answer: is `striate serve` still running?"); }
    const told = await answer.json().catch(() => ({ error: "the server answered with no reason (" + answer.status + ")" }));
    if (answer.status === 403) throw new Error("This page needs its token: open the address that `striate serve` printed.");
    if (!answer.ok) throw Object.assign(new Error(told.error || told.says || "no answer"), { status: answer.status, told });
    return told;
  }

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "text") made.textContent = value; else made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  }

  // A picture of the collection that opens the ones like it; names are text, never HTML.
  function figure(one, score) {
    const image = element("img", { src: one.image || "/picture/" + one.position, alt: one.label || one.term || one.key, width: 104, height: 104, loading: "lazy" });
    const caption = element("figcaption", {}, ...(score === undefined ? [] : [element("b", { text: score }), " "]), one.label || one.term || "");
    return element("figure", { "data-position": one.position }, element("a", { href: "/similar?at=" + one.position, title: one.key }, image), caption);
  }

  function percent(share, digits = 0) { return (100 * share).toFixed(digits) + "%"; }

  // Work that a page waits for: shown as it goes on; when it is done the page is loaded anew, or told.
  async function follow() {
    const waiting = [...document.querySelectorAll(".working")];
    if (waiting.length === 0) return;
    try {
      const { jobs } = await json("/api/jobs");
      for (const place of waiting) {
        const job = jobs.find((one) => one.name === place.dataset.job);
        if (!job || job.state === "done") {
          if (place.hasAttribute("data-reload")) { location.reload(); return; }
          place.remove();
          document.dispatchEvent(new CustomEvent("striate-done", { detail: place.dataset.job }));
        } else show(place, job, jobs);
      }
    } catch (error) {
      waiting[0].querySelector(".says").textContent = error.message;
    }
    setTimeout(follow, EVERY_MS);
  }

  function show(place, job, jobs) {
    const now = job.state === "waiting" ? jobs.find((one) => one.state === "running" && one.line === job.line) || job : job;
    place.querySelector(".says").textContent = job.state === "failed" ? job.error : now.says;
    place.classList.toggle("failed", job.state === "failed");
    const bar = place.querySelector("progress");
    bar.hidden = job.state === "failed";
    place.querySelector(".much").textContent = now.share === null ? "" : percent(now.share);
    if (now.share === null) bar.removeAttribute("value"); else bar.value = now.share;
  }

  setTimeout(follow, 150);
  return { json, element, figure, percent };
})();
