// Shows what the address asks for.
"use strict";

const VIEWS = { answer: renderAnswer, patches: renderPatches, patch: renderPatch };

function notice(sentences) {
  document.getElementById("notice").textContent = sentences.join(" ");
}

let shownView = null;
let followed = false; // a link of the page: the browser itself takes its Back and Forward to where they were

document.addEventListener("click", (event) => {
  followed = Boolean(event.target.closest?.('a[href^="#"]'));
});

/** A view that a link leads to begins at its top; the grid, at the patch that was open. */
function arrive(state) {
  const other = followed && state.view !== shownView;
  shownView = state.view;
  followed = false;
  if (!other) return;
  const card = state.view === "patches" ? document.getElementById(`card-${state.patch}`) : null;
  if (!card) scrollTo(0, 0);
  (card ?? document.getElementById(state.view)).focus({ preventScroll: !card });
}

async function render() {
  const { state, run, notices } = readState();
  state.address = location.hash;
  notice(notices);
  for (const view of Object.keys(VIEWS)) document.getElementById(view).hidden = view !== state.view;
  for (const [view, tab] of [
    ["answer", "to-answer"],
    ["patches", "to-patches"],
  ]) {
    const own = document.getElementById(tab);
    own.href = link(state, { view });
    if (state.view === view) own.setAttribute("aria-current", "page");
    else own.removeAttribute("aria-current");
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
