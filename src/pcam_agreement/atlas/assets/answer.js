// The answer: the matrix of agreement, and the numbers behind each cell.
"use strict";

const MEASURES = {
  correlation: "patch-specific correlation of the masks",
  overlap: "patch-specific overlap of the masks",
  iou: "IoU of the masks",
  excess: "IoU above the null",
  kappa: "Cohen's kappa: IoU corrected for chance",
  weighted_iou: "weighted IoU of the heatmaps",
  spearman: "rank correlation of the heatmaps",
  ssim: "structural similarity of the heatmaps",
};
const BLURRED = ["correlation", "overlap"]; // of masks at the scale of the shares

function renderAnswer(state) {
  const methods = new Set(atlas.runs.flatMap((run) => Object.keys(run.methods)));
  fill(
    document.getElementById("answer-controls"),
    choice(state, "method", "method", named([...methods])),
    choice(state, "measure", "measure", MEASURES),
  );
  const runs = atlas.runs.map((run, number) => ({ run, number: String(number) }));
  for (const { run, number } of runs) fill(document.getElementById(`shares-${number}`), shares(run));
  fill(
    document.getElementById("matrices"),
    runs.map((each) => matrix(state, each)),
  );
  fill(
    document.getElementById("recipes"),
    runs.map((each) => recipeTables(state, each)),
  );
  const gaps = runs.filter(({ run }) => run.tables.gaps.length);
  document.getElementById("gap-part").hidden = !gaps.length;
  fill(
    document.getElementById("gaps"),
    gaps.map((each) => gapPlot(state, each)),
  );
}

/** The row of the agreement table of two networks, in whatever order; undefined where there is none. */
function pairRow(run, method, a, b) {
  return run.tables.agreement.find(
    (row) =>
      row.method === method &&
      ((row.network_a === a && row.network_b === b) || (row.network_a === b && row.network_b === a)),
  );
}

/** The networks, recipe by recipe and the untrained ones last; in all runs in the same order, to be compared. */
function orderOf(run) {
  const all = new Set(atlas.runs.flatMap((each) => each.order));
  return [...all].filter((network) => run.networks.includes(network));
}

/** The IoU of two random masks; null where ties let the areas of masks differ. */
const chanceOf = (run) => (run.ties === "share" ? run.fraction / (2 - run.fraction) : null);

/** The range of the colours: the chance level (0, or the lowest value), and the highest of all runs and methods.
 *  Null where no pair has a number. */
function colourRange(measure) {
  const rows = atlas.runs.flatMap((run) => run.tables.agreement);
  const values = rows
    .map((row) => row[measure])
    .filter((text) => text !== "")
    .map(Number);
  if (values.length === 0) return null;
  const low = { iou: Math.min(...atlas.runs.map(chanceOf)), weighted_iou: Math.min(...values) }[measure] ?? 0;
  return [low, Math.max(low + 0.01, ...values)];
}

function matrix(state, { run, number }) {
  const { method, measure } = state;
  const range = colourRange(measure);
  if (!run.methods[method]) return notIn(run, method);
  const order = orderOf(run);
  const details = element("div", { class: "details" });
  const explain = (row) => details.replaceChildren(...pairInWords(run, row));
  const cell = (a, b) => {
    const row = pairRow(run, method, a, b);
    const share = row[measure] === "" ? null : (Number(row[measure]) - range[0]) / (range[1] - range[0]);
    const address = { ...ALL_PATCHES, view: "patches", run: number, a: row.network_a, b: row.network_b };
    return element(
      "a",
      {
        href: link(state, address),
        class: `cell ${row.kind}`,
        style: share === null ? "" : shade(share),
        "aria-label": sentence(row, measure),
        focus: () => explain(row),
        mouseenter: () => explain(row),
      },
      isDense(order) ? (share === null ? "–" : "") : share === null ? "undefined" : digits(row[measure]),
    );
  };
  explain(pairRow(run, method, ...firstPair(run)));
  const title = atlas.runs.length > 1 ? `${run.name}: ` : "";
  return element(
    "figure",
    { class: matrixClass(order, 6) },
    element(
      "figcaption",
      {},
      `${title}${MEASURES[measure]}${BLURRED.includes(measure) ? ` (scale ${run.sigma} pixels)` : ""}, ${method}: ` +
        `${run.methods[method].description}.`,
    ),
    element("div", { class: "scroll" }, pairsTable(order, cell)),
    range ? scale(measure, ...range) : null,
    details,
  );
}

function notIn(run, method) {
  return element("p", { class: "missing" }, `${method} is not in ${run.name}.`);
}

function scale(measure, low, high) {
  const stops = VIRIDIS.map((_, place) => `rgb(${colour(place / (VIRIDIS.length - 1))})`);
  return element(
    "p",
    { class: "scale" },
    low.toFixed(2) + (measure === "iou" ? " (chance)" : ""),
    element("span", { class: "bar", style: `background:linear-gradient(to right, ${stops.join(", ")})` }),
    high.toFixed(2),
    element("span", { class: "key within" }, KINDS.within),
    element("span", { class: "key untrained" }, KINDS.untrained),
  );
}

const KINDS = {
  between: "networks of two recipes",
  within: "two trainings of one recipe",
  untrained: "one or both untrained",
};

const interval = (row, name) =>
  row[`${name}_low`]
    ? `95 % interval ${digits(row[`${name}_low`])} to ${digits(row[`${name}_high`])}`
    : "no interval";

/** Why a pair has no number of a measure. */
function whyUndefined(row, measure) {
  if (row.iou === "") return "no patch where neither map is constant";
  return {
    kappa: "the areas of masks differ",
    excess: "no null",
    correlation: "a network shares nothing with itself about the patch",
    overlap: "too few slides of a label",
  }[measure] ?? "no patch where it is a number";
}

/** A number of a pair with its interval, or why there is none. */
const inWords = (row, measure) =>
  row[measure] === ""
    ? `undefined: ${whyUndefined(row, measure)}`
    : digits(row[measure]) + (`${measure}_low` in row ? `, ${interval(row, measure)}` : "");

/** A cell as a sentence, for screen readers. */
function sentence(row, measure) {
  const others = measure === "iou" ? "" : ` IoU ${inWords(row, "iou")};`;
  return (
    `${row.network_a} and ${row.network_b}, ${KINDS[row.kind]}: ${MEASURES[measure]} ${inWords(row, measure)}.` +
    `${others} null ${digits(row.null)}. Opens the patches.`
  );
}

/** The numbers of a pair. */
function pairInWords(run, row) {
  const chance = chanceOf(run);
  const facts = [
    ["IoU", inWords(row, "iou")],
    [
      "null",
      row.null === ""
        ? "none: no other patch of the label on another slide"
        : `${digits(row.null)}, ${interval(row, "null")}: the same two networks on different patches`,
    ],
    ["IoU above null", inWords(row, "excess")],
    ["correlation", `${inWords(row, "correlation")}: patch-specific, scale ${run.sigma} pixels`],
    [
      "other measures",
      `overlap ${digits(row.overlap)}; kappa ${digits(row.kappa)}; rank correlation ${digits(row.spearman)}; ` +
        `weighted IoU ${digits(row.weighted_iou)} (chance ${digits(row.weighted_iou_chance)}); ` +
        `structural similarity ${digits(row.ssim)} (null ${digits(row.ssim_null)})`,
    ],
    ["chance", chance === null ? "none: the areas of masks differ" : `IoU ${digits(chance)}: two random masks`],
    ["based on", `${row.patches} patches of ${row.slides} slides`],
  ];
  const doubts = [row.network_a, row.network_b].map((network) => doubt(run, row.method, network)).filter(Boolean);
  if (doubts.length) facts.push(["but", doubts.join("; ")]);
  return [
    element("h3", {}, `${row.network_a} ~ ${row.network_b}`, element("small", {}, KINDS[row.kind])),
    element(
      "dl",
      {},
      facts.map(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]),
    ),
  ];
}

/** Why a network's heatmaps may not be worth comparing. */
function doubt(run, method, network) {
  const same = (row) => row.method === method && row.network === network;
  const faithful = run.tables.faithfulness.find(same);
  const counted = run.tables.heatmaps.find(same);
  const words = [];
  if (faithful && faithful.verdict !== "informative") {
    words.push(`${faithful.verdict} by deletion and insertion (${faithful.reason})`);
  }
  for (const name of ["constant", "nonfinite", "unconverged"]) {
    if (Number(counted[name])) words.push(`${counted[name]} of ${counted.patches} maps ${name}`);
  }
  return words.length ? `${network}: ${words.join(", ")}` : "";
}
