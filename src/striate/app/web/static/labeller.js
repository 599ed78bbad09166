// Who labels: kept by this browser, sent with every answer.
"use strict";
(() => {
  const input = document.getElementById("labeller");
  const notice = document.getElementById("first");
  input.value = localStorage.getItem("striate-labeller") || "";
  const show = () => { if (notice) notice.hidden = input.value.trim() !== ""; };
  input.addEventListener("input", () => {
    localStorage.setItem("striate-labeller", input.value.trim());
    show();
  });
  input.addEventListener("change", () => document.dispatchEvent(new Event("striate-labeller")));
  show();
})();
