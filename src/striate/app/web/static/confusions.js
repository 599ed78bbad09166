// A cell opens its pictures.
"use strict";
(() => {
  const title = document.getElementById("cell-title"), pictures = document.getElementById("cell-pictures"), dense = document.getElementById("dense");
  if (!title) return;

  async function open(truth, said) {
    for (const one of document.querySelectorAll(".matrix [aria-pressed]")) one.removeAttribute("aria-pressed");
    const cell = document.querySelector(`.matrix [data-truth="${truth}"][data-said="${said}"]`);
    if (cell) cell.setAttribute("aria-pressed", "true");
    try {
      const told = await striate.json(`/api/confused?truth=${truth}&said=${said}`);
      const named = told.truth === told.said ? `${told.truth}, named rightly` : `${told.truth} called ${told.said}`;
      title.textContent = `${named}: ${told.total.toLocaleString("en")}` + (told.total > told.pictures.length ? `, the ${told.pictures.length} surest` : "");
      pictures.replaceChildren(...told.pictures.map((one) => striate.figure({ ...one, label: "" }, striate.percent(one.probability))));
    } catch (error) {
      title.textContent = error.message;
      pictures.replaceChildren();
    }
    document.getElementById("cell").scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-truth]");
    if (chosen) open(chosen.dataset.truth, chosen.dataset.said);
  });
  if (dense) dense.addEventListener("click", (event) => {
    const box = dense.getBoundingClientRect(), count = Number(dense.dataset.count);
    const index = (offset, side) => Math.min(count - 1, Math.floor(offset / side * count));
    open(index(event.clientY - box.top, box.height), index(event.clientX - box.left, box.width));
  });
})();
