/* For readers who use the keyboard or listen: what the theme leaves out. */
"use strict";
document.addEventListener("DOMContentLoaded", function () {
  // A button that shows "Search Ctrl+K" is to be called that; the theme's label hides it.
  document.querySelectorAll("button.search-button__button[aria-label]").forEach(function (button) {
    if (button.querySelector(".search-button__default-text")) button.removeAttribute("aria-label");
  });
});
window.addEventListener("load", function () {
  // What scrolls sideways must be reachable without a mouse.
  document.querySelectorAll(".bd-article pre, .bd-article .math, .bd-article .pst-scrollable-table-container")
    .forEach(function (block) {
      if (block.scrollWidth > block.clientWidth && !block.hasAttribute("tabindex")) block.tabIndex = 0;
    });
});
