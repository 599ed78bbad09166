// Keys from unit to unit; the optimal stimulus when it has been found.
"use strict";
(() => {
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
    const link = rel && document.querySelector(`a[rel=${rel}]`);
    if (link) link.click();
  });
  const place = document.getElementById("stimulus");
  async function ask() {
    const told = await striate.json(`/api/stimulus?layer=${encodeURIComponent(place.dataset.layer)}&unit=${place.dataset.unit}`);
    const wait = place.querySelector(".placeholder"), image = place.querySelector("img");
    if (told.state === "failed") wait.textContent = told.error;
    else if (told.picture) { image.src = told.picture; image.hidden = false; wait.hidden = true; }
    else setTimeout(ask, 600);
  }
  if (place) ask().catch((error) => { place.querySelector(".placeholder").textContent = error.message; });
})();
