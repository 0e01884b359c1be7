// Shows what the address asks for.
"use strict";

const VIEWS = { answer: renderAnswer, patches: renderPatches, patch: renderPatch };

function notice(sentences) {
  document.getElementById("notice").textContent = sentences.join(" ");
}

history.scrollRestoration = "manual"; // the browser would scroll before the view of Back is there
const left = new Map(); // how far each address was scrolled when it was left
let shown = { view: null, address: null };
let followed = false; // a link of the page, not Back or Forward

document.addEventListener("click", (event) => {
  followed = Boolean(event.target.closest?.('a[href^="#"]'));
});

/** Another view begins at its top; the grid, at the patch that was open; that of Back, where it was left. */
function arrive(state) {
  const other = state.view !== shown.view;
  const card = state.view === "patches" ? document.getElementById(`card-${state.patch}`) : null;
  if (other && !followed) scrollTo(0, left.get(state.address) ?? 0);
  else if (other) {
    scrollTo(0, 0);
    (card ?? document.getElementById(state.view)).focus({ preventScroll: !card });
  }
  shown = { view: state.view, address: state.address };
  followed = false;
}

async function render() {
  left.set(shown.address, scrollY);
  const { state, run, notices } = readState();
  state.address = location.hash;
  notice(notices);
  for (const view of Object.keys(VIEWS)) document.getElementById(view).hidden = view !== state.view;
  for (const [view, tab] of [
    ["answer", "to-answer"],
    ["patches", "to-patches"],
  ]) {
    const anchor = document.getElementById(tab);
    anchor.href = link(state, { view });
    if (state.view === view) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  try {
    await VIEWS[state.view](state, run);
    if (location.hash !== state.address) return;
    arrive(state);
    document.body.dataset.shown = location.hash;
  } catch (error) {
    notice([error.message]);
    throw error;
  }
}

/** Arrows move between patches, but not where they move something else. */
document.addEventListener("keydown", (event) => {
  const id = { ArrowLeft: "previous", ArrowRight: "next" }[event.key];
  const elsewhere = event.target.closest?.("input, select") || event.altKey || event.ctrlKey || event.metaKey;
  if (id && !elsewhere && !document.getElementById("patch").hidden) {
    const target = document.getElementById(id);
    if (target) location.hash = target.getAttribute("href");
  }
});

window.addEventListener("hashchange", render);
render();
