/* For readers who use the keyboard or listen: what the theme leaves out. */
"use strict";
document.addEventListener("DOMContentLoaded", function () {
  // A button that shows "Search Ctrl+K" is to be called that; the theme's label hides it.
  document.querySelectorAll("button.search-button__button[aria-label]").forEach(function (button) {
    if (button.querySelector(".search-button__default-text")) button.removeAttribute("aria-label");
  });
  // The line that shows hidden code says what it does; its label says something else.
  document.querySelectorAll("summary[aria-label]").forEach(function (line) {
    if (line.textContent.trim()) line.removeAttribute("aria-label");
  });
  // The titles of the colour switch's icons read as a second name of the button; a script makes SVG of them later.
  document.querySelectorAll(".theme-switch-button").forEach(function (button) {
    function strip() {
      button.querySelectorAll("i[title], svg:not([aria-hidden='true']), svg > title").forEach(function (icon) {
        if (icon.tagName === "title") return icon.remove();
        icon.removeAttribute("title");
        icon.setAttribute("aria-hidden", "true");
      });
    }
    strip();
    new MutationObserver(strip).observe(button, {childList: true, subtree: true});
  });
  // A list whose entries are no list items, says docutils.
  document.querySelectorAll(".citation-list[role='list']").forEach(function (list) { list.removeAttribute("role"); });
});
window.addEventListener("load", function () {
  // What scrolls sideways must be reachable without a mouse.
  document.querySelectorAll(".bd-article pre, .bd-article .math, .bd-article .pst-scrollable-table-container")
    .forEach(function (block) {
      if (block.scrollWidth > block.clientWidth && !block.hasAttribute("tabindex")) block.tabIndex = 0;
    });
});
