"use strict";
// The switch between light, dark and what the system has: a button with data-switch-theme. The choice
// stays where the browser lets a page keep something.
(() => {
  const KEY = "coordledger-theme",
    CHOICES = ["auto", "light", "dark"],
    root = document.documentElement;
  const button = document.querySelector("[data-switch-theme]");
  let chosen = "auto";
  try {
    chosen = localStorage.getItem(KEY) || chosen;
  } catch {
    /* it keeps nothing */
  }
  const show = () => {
    root.dataset.theme = chosen;
    if (button) {
      button.textContent = { auto: "◐ Auto", light: "☀ Light", dark: "☾ Dark" }[chosen];
      button.setAttribute("aria-label", `Colours: ${chosen}. Change`);
    }
  };
  if (!CHOICES.includes(chosen)) chosen = "auto";
  button?.addEventListener("click", () => {
    chosen = CHOICES[(CHOICES.indexOf(chosen) + 1) % CHOICES.length];
    try {
      localStorage.setItem(KEY, chosen);
    } catch {
      /* as above */
    }
    show();
  });
  show();
})();
