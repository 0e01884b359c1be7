// The answer: the matrix of agreement, and the numbers behind each cell.
"use strict";

const MEASURES = {
  iou: "IoU of the masks",
  kappa: "Cohen's kappa: IoU corrected for chance",
  excess: "IoU above the null",
  normalised: "A: from null (0) to ceiling (1)",
  weighted_iou: "weighted IoU of the heatmaps",
  spearman: "rank correlation of the heatmaps",
};

function renderAnswer(state) {
  const methods = new Set(atlas.runs.flatMap((run) => Object.keys(run.methods)));
  fill(
    document.getElementById("answer-controls"),
    choice(state, "method", "method", named([...methods])),
    choice(state, "measure", "measure", MEASURES),
  );
  const runs = atlas.runs.map((run, number) => ({ run, number: String(number) }));
  fill(
    document.getElementById("matrices"),
    runs.map((each) => matrix(state, each)),
  );
  fill(
    document.getElementById("gaps"),
    runs.map((each) => gapPlot(state, each)),
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

/** The networks with those beside each other that agree; in all runs in the order of the first, to be compared. */
function orderOf(run) {
  const all = new Set(atlas.runs.flatMap((each) => each.order));
  return [...all].filter((network) => run.networks.includes(network));
}

/** The range of the colours: the chance level (0, or the lowest value), and the highest of all runs and methods.
 *  Null where no pair has a number. */
function colourRange(measure) {
  const rows = atlas.runs.flatMap((run) => run.tables.agreement);
  const values = rows
    .map((row) => row[measure])
    .filter((text) => text !== "")
    .map(Number);
  if (values.length === 0) return null;
  const chance = Math.min(
    ...atlas.runs.flatMap((run) => Object.values(run.summary.agreement).map((each) => each.chance)),
  );
  const low = { iou: chance, weighted_iou: Math.min(...values) }[measure] ?? 0;
  return [low, measure === "normalised" ? Math.max(1, ...values) : Math.max(low + 0.01, ...values)];
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
    const address = link(state, { ...ALL_PATCHES, view: "patches", run: number, a: row.network_a, b: row.network_b });
    const style = share === null ? "" : shade(share);
    return element(
      "td",
      {},
      element(
        "a",
        {
          href: address,
          class: `cell ${row.kind}`,
          style,
          "aria-label": sentence(run, row, measure),
          focus: () => explain(row),
          mouseenter: () => explain(row),
        },
        share === null ? "undefined" : short(row[measure]),
      ),
    );
  };
  const rows = order.slice(1).map((network, place) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, breakable(network)),
      order.slice(0, -1).map((other, column) => (column <= place ? cell(other, network) : element("td"))),
    ),
  );
  const heads = order.slice(0, -1).map((network) => element("th", { scope: "col" }, breakable(network)));
  const first =
    run.tables.agreement.find((row) => row.method === method && row.kind === "trained") ??
    run.tables.agreement.find((row) => row.method === method);
  explain(first);
  const title = atlas.runs.length > 1 ? `${run.name}: ` : "";
  return element(
    "figure",
    { class: order.length > 6 ? "matrix many" : "matrix" },
    element("figcaption", {}, `${title}${MEASURES[measure]}, ${method}: ${run.methods[method]}.`),
    element(
      "div",
      { class: "scroll" },
      element("table", {}, element("thead", {}, element("tr", {}, element("td"), heads)), element("tbody", {}, rows)),
    ),
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
    element("span", { class: "key ceiling" }, "ceiling: one architecture, two seeds"),
    element("span", { class: "key floor" }, "floor: one of them untrained"),
  );
}

const KINDS = {
  trained: "two trained networks",
  ceiling: "ceiling: one architecture, two seeds",
  floor: "floor: one of them is untrained",
};

const interval = (row, name) =>
  row[`${name}_low`] ? `95 % interval ${row[`${name}_low`]} to ${row[`${name}_high`]}` : "no interval";

/** The trainings of one architecture that a pair's ceiling is the mean of. */
function ceilingRows(run, row) {
  const place = run.pairs.findIndex(([a, b]) => a === row.network_a && b === row.network_b);
  return run.ceilings[place].map((other) => pairRow(run, row.method, ...run.pairs[other]));
}

function ceilingInWords(run, row) {
  const rows = ceilingRows(run, row);
  return rows.length
    ? rows.map((row) => `${row.iou} (${row.network_a} ~ ${row.network_b})`).join(", ")
    : "none: neither network was trained again from another seed";
}

/** Why a pair has no number of a measure. */
function whyUndefined(row, measure) {
  if (measure === "normalised") return row.undefined || "no reason given";
  if (row.iou === "") return "no patch where neither map is constant";
  return { kappa: "the areas of masks differ", excess: "no null" }[measure] ?? "no patch where it is a number";
}

function normalisedInWords(row) {
  return row.normalised === ""
    ? `undefined: ${whyUndefined(row, "normalised")}`
    : `${row.normalised}, ${interval(row, "normalised")}`;
}

/** A cell as a sentence, for screen readers. */
function sentence(run, row, measure) {
  const value = row[measure] === "" ? `undefined: ${whyUndefined(row, measure)}` : row[measure];
  return (
    `${row.network_a} and ${row.network_b}, ${KINDS[row.kind]}: ${MEASURES[measure]} ${value}. ` +
    `IoU ${row.iou || "undefined"}, ` +
    `${interval(row, "iou")}; null ${row.null || "none"}; ceiling ${ceilingInWords(run, row)}. Opens the patches.`
  );
}

/** The numbers of a pair, in the digits of plots/agreement.csv. */
function pairInWords(run, row) {
  const { chance } = run.summary.agreement[row.method];
  const facts = [
    [
      "IoU",
      row.iou === "" ? `undefined: ${whyUndefined(row, "iou")}` : `${row.iou}, ${interval(row, "iou")}`,
    ],
    [
      "null",
      row.null === ""
        ? "none: no other patch of the label on another slide"
        : `${row.null}, ${interval(row, "null")}: the same two networks on different patches`,
    ],
    ["chance", chance === null ? "none: the areas of masks differ" : `${chance}: two random masks`],
    ["ceiling", ceilingInWords(run, row)],
    ["A", normalisedInWords(row)],
    [
      "other measures",
      `kappa ${row.kappa || "–"}; rank correlation ${row.spearman || "–"}; weighted IoU ` +
        `${row.weighted_iou || "–"} (its chance ${row.weighted_iou_chance || "–"})`,
    ],
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
