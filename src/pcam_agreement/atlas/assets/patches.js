// The patches of a pair of networks: filtered, sorted, and shown with the masks of both.
"use strict";

const CHOICES = {
  label: { all: "tumour or normal", tumour: "tumour", normal: "normal" },
  right: {
    all: "whoever is right",
    both: "both right",
    a: "only the first right",
    b: "only the second right",
    none: "none right",
  },
  quarter: {
    all: "any agreement",
    1: "lowest quarter",
    2: "second quarter",
    3: "third quarter",
    4: "highest quarter",
    undefined: "undefined",
  },
  outside: { all: "tumour anywhere", yes: "tumour outside the centre only", no: "not outside only" },
  sort: { low: "least agreed first", high: "most agreed first", index: "by number", slide: "by slide" },
  masks: { 1: "with masks", 0: "tissue only" },
  show: { heatmap: "heatmaps", mask: "masks", tissue: "tissue only" },
  centre: { 1: "yes", 0: "no" },
  tumour: { 1: "yes", 0: "no" },
};

const slides = (run) => [...new Set(run.patches.map((patch) => patch.slide))].sort();

/** The IoU of the pair on a patch, as the compare stage measured it; null where a map is constant. */
function pairIou(run, patch, { method, a, b }) {
  const place = run.pairs.findIndex((pair) => pair.includes(a) && pair.includes(b));
  return patch.iou[method]?.[place] ?? null;
}

/** The patches that pass the filters, in order. */
function listed(run, state) {
  const [first, second] = [state.a, state.b].map((name) => run.networks.indexOf(name));
  const known = run.patches.map((patch) => ({ patch, iou: pairIou(run, patch, state) }));
  const defined = known.filter((item) => item.iou !== null).sort((first, second) => first.iou - second.iou);
  const quarter = new Map(defined.map((item, rank) => [item.patch, String(1 + Math.floor((4 * rank) / defined.length))]));
  const right = ({ right: is }) => (is[first] ? (is[second] ? "both" : "a") : is[second] ? "b" : "none");
  const passes = ({ patch }) =>
    (state.label === "all" || (state.label === "tumour") === (patch.label === 1)) &&
    (state.right === "all" || state.right === right(patch)) &&
    (state.slide === "all" || state.slide === patch.slide) &&
    (state.quarter === "all" || state.quarter === (quarter.get(patch) ?? "undefined")) &&
    (state.outside === "all" || (state.outside === "yes") === patch.outside);
  const orders = {
    low: (first, second) => (first.iou ?? Infinity) - (second.iou ?? Infinity),
    high: (first, second) => (second.iou ?? -Infinity) - (first.iou ?? -Infinity),
    index: (first, second) => first.patch.index - second.patch.index,
    slide: (first, second) => first.patch.slide.localeCompare(second.patch.slide),
  };
  // Those without a number come last in either order; Infinity - Infinity is not a number, and keeps the order.
  return known
    .filter(passes)
    .sort((first, second) => orders[state.sort](first, second) || orders.index(first, second));
}

function renderPatches(state, run) {
  const rows = listed(run, state);
  const whose = { ...CHOICES.right, a: `only ${state.a} right`, b: `only ${state.b} right` };
  const away = { first: "", second: "" };
  fill(
    document.getElementById("patches-controls"),
    atlas.runs.length > 1
      ? choice(
          state,
          "run",
          "run",
          atlas.runs.map((each) => each.name),
          { ...away, top: "" },
        )
      : null,
    choice(state, "method", "method", named(Object.keys(run.methods)), away),
    choice(state, "a", "first network", named(run.networks.filter((name) => name !== state.b)), away),
    choice(state, "b", "second network", named(run.networks.filter((name) => name !== state.a)), away),
    choice(state, "label", "label", CHOICES.label),
    choice(state, "right", "right", whose),
    choice(state, "slide", "slide", { all: "all slides", ...named(slides(run)) }),
    choice(state, "quarter", "agreement", CHOICES.quarter),
    choice(state, "outside", "tumour", CHOICES.outside),
    choice(state, "sort", "order", CHOICES.sort),
    choice(state, "masks", "show", CHOICES.masks),
  );
  fill(document.getElementById("pair"), pairInWords(run, pairRow(run, state.method, state.a, state.b)));
  const some = run.explained > run.patches.length ? ` (of ${run.explained} explained, evenly spaced)` : "";
  fill(document.getElementById("count"), `${rows.length} of ${run.patches.length} patches${some}`);
  fill(document.getElementById("patches-legend"), state.masks === "0" ? null : legend(run, state));
  fill(
    document.getElementById("grid"),
    rows.length
      ? rows.map(({ patch, iou }) => card(state, run, patch, iou))
      : element("p", { class: "missing" }, "No patch passes all of these filters."),
  );
}

function legend(run, { a, b }) {
  return [
    `The ${percent(run.fraction)} most important pixels: `,
    element("span", { class: "both" }, "of both"),
    element("span", { class: "only first" }, `of ${a} only`),
    element("span", { class: "only second" }, `of ${b} only`),
  ];
}

/** The IoU of the same pair on the same patch in other runs. */
function elsewhere(state, run, patch) {
  return atlas.runs
    .filter((other) => other !== run)
    .map((other) => {
      const same = other.byKey.get(patch.key);
      const there =
        same && other.methods[state.method] && [state.a, state.b].every((name) => other.networks.includes(name));
      return there ? `${other.name}: ${iouInWords(pairIou(other, same, state))}` : `${other.name}: not there`;
    });
}

const iouInWords = (iou) => (iou === null ? "IoU undefined" : `IoU ${digits(iou)}`);

function card(state, run, patch, iou) {
  const layer = canvas();
  const right = [state.a, state.b].map((name) => patch.right[run.networks.indexOf(name)]);
  const made = element(
    "a",
    {
      class: "card",
      id: `card-${patch.key}`,
      href: link(state, { view: "patch", patch: patch.key, first: "", second: "" }),
      keydown: moveInGrid,
    },
    picture(run, patch, state.masks === "1" ? layer : null),
    element("strong", {}, iouInWords(iou)),
    elsewhere(state, run, patch).map((text) => element("span", {}, text)),
    element("span", {}, patch.label ? "tumour" : patch.outside ? "normal, tumour outside the centre" : "normal"),
    element(
      "span",
      {},
      right[0] && right[1]
        ? "both right"
        : !right[0] && !right[1]
          ? "none right"
          : `only ${right[0] ? state.a : state.b} right`,
    ),
    element("span", { class: "faint" }, `patch ${patch.index}, slide `, breakable(patch.slide)),
    [...badges(run, patch, state)].map((text) => element("span", { class: "warning" }, text)),
  );
  if (state.masks === "1") {
    made.draw = async () => {
      const { maps } = await loadPatch(run, patch.key);
      const [first, second] = [state.a, state.b].map((name) => maskOf(run, maps[state.method][name], run.fraction));
      paint(layer, (image) => overlapPixels(first, second, image));
    };
    seen.observe(made);
  }
  return made;
}

/** Draws the cards that come into sight. */
const seen = new IntersectionObserver(
  (entries) => {
    for (const entry of entries.filter((item) => item.isIntersecting)) {
      seen.unobserve(entry.target);
      entry.target.draw().catch((error) => notice([error.message]));
    }
  },
  { rootMargin: "200px" },
);

function maskOf(run, map, fraction) {
  const size = run.steps.find(([known]) => known === fraction)[1];
  return { map, weights: weights(map, size, run.ties) };
}

/** What is wrong with the two heatmaps of a patch. */
function badges(run, patch, { method, a, b }) {
  return [a, b]
    .map((name) => [name, patch.state[method][run.networks.indexOf(name)]])
    .filter(([, status]) => status !== "")
    .map(([name, status]) => `${name}: ${STATES[status].split(":")[0]}`);
}

/** Arrows move from patch to patch. */
function moveInGrid(event) {
  const cards = [...event.currentTarget.parentElement.querySelectorAll(".card")];
  const place = cards.indexOf(event.currentTarget);
  const columns = cards.filter((item) => item.offsetTop === cards[0].offsetTop).length;
  const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
  if (by === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  cards[place + by]?.focus();
}
