// Files are sent when they are chosen or dropped; a plus sign takes a picture as a further example.
"use strict";
(() => {
  const form = document.getElementById("give"), file = document.getElementById("file"), giving = document.getElementById("giving"), trouble = document.getElementById("trouble");
  const split = (text) => text.split(",").filter((part) => part !== "");
  const at = split(form.dataset.at), given = split(form.dataset.given);

  function go() {
    const parts = [];
    if (at.length) parts.push("at=" + at.join(","));
    if (given.length) parts.push("given=" + given.join(","));
    location.href = "/similar" + (parts.length ? "?" + parts.join("&") : "");
  }

  async function send(files) {
    trouble.hidden = true;
    const failed = [];
    let taken = 0;
    for (const one of [...files].slice(0, Number(form.dataset.most))) {
      giving.textContent = `reading ${one.name} …`;
      try {
        given.push((await striate.json("/api/given", { method: "POST", body: one })).given);
        taken += 1;
      } catch (error) { failed.push(`${one.name}: ${error.message}`); }
    }
    giving.textContent = "";
    if (failed.length) { trouble.textContent = failed.join(" "); trouble.hidden = false; }
    if (taken && failed.length === 0) go();
    else if (taken) setTimeout(go, 2500);
  }

  file.addEventListener("change", () => { send(file.files); });
  for (const name of ["dragenter", "dragover"]) document.addEventListener(name, (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    if (event.dataTransfer.files.length) send(event.dataTransfer.files);
  });
  document.addEventListener("click", (event) => {
    const add = event.target.closest("[data-add]");
    if (!add) return;
    if (!at.includes(add.dataset.add)) at.push(add.dataset.add);
    go();
  });
})();
