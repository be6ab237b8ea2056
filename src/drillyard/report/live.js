// Replaces the parts of the live page that changed. While the page is hidden, nothing is read.
"use strict";
const QUICKLY_MS = 1000;
const LONGEST_MS = 30000;
const seen = {};
let failures = 0;
let timer = 0;

function show(id, html) {
  if (seen[id] === html) return;
  const part = document.getElementById(id);
  const focused = document.activeElement;
  const inside = part.contains(focused) ? focused.id || focused.getAttribute("aria-label") : null;
  const log = document.getElementById("lines");
  const below = log ? log.scrollHeight - log.scrollTop - log.clientHeight : 0;
  const at = log ? log.scrollTop : 0;
  part.innerHTML = html; // escaped by the server; the content security policy runs no script in it
  seen[id] = html;
  if (inside) {
    const again = [...part.querySelectorAll("[id], [aria-label]")].find(
      (e) => e.id === inside || e.getAttribute("aria-label") === inside);
    if (again) again.focus({ preventScroll: true });
  }
  const lines = id === "log" && document.getElementById("lines");
  if (lines) lines.scrollTop = below < 8 ? lines.scrollHeight : at;
}

function trouble(text) {
  const box = document.getElementById("trouble");
  if (box.textContent !== text) box.textContent = text;
  box.hidden = !text;
}

async function look() {
  window.clearTimeout(timer);
  if (document.hidden) return;
  let wait = LONGEST_MS;
  try {
    const answer = await fetch("state" + window.location.search, { cache: "no-store" });
    const state = await answer.json();
    trouble(state.trouble);
    for (const [id, html] of Object.entries(state.parts)) show(id, html);
    if (state.title) document.title = state.title;
    failures = 0;
    wait = state.every_s * 1000;
  } catch {
    failures += 1;
    wait = Math.min(LONGEST_MS, QUICKLY_MS * 2 ** failures);
    trouble("Not up to date: the program that serves this page does not answer. "
      + "Start it again with drillyard watch.");
  }
  timer = window.setTimeout(look, wait);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
look();
