// The answer: the matrix of agreement, what each cell rests on, and performance gap against agreement.
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
  fill(document.getElementById("answer-controls"),
    choice(state, "method", "method", named(Object.keys(atlas.runs[Number(state.run)].methods))),
    choice(state, "measure", "measure", MEASURES));
  const runs = atlas.runs.map((run, number) => ({ run, number: String(number) }));
  fill(document.getElementById("matrices"), runs.map((own) => matrix(state, own)));
  fill(document.getElementById("gaps"), runs.map((own) => gapPlot(state, own)));
}

/** The row of the agreement table of two networks, in whatever order; undefined where there is none. */
function pairRow(run, method, a, b) {
  return run.tables.agreement.find((row) => row.method === method
    && ((row.network_a === a && row.network_b === b) || (row.network_a === b && row.network_b === a)));
}

/** The networks with those beside each other that agree; in all runs in the order of the first, to be compared. */
function orderOf(run) {
  const all = new Set(atlas.runs.flatMap((own) => own.order));
  return [...all].filter((network) => run.networks.includes(network));
}

/** The range of the colours: what would be found if nothing was shared, and the highest of all runs and methods. */
function colourRange(measure) {
  const rows = atlas.runs.flatMap((run) => run.tables.agreement);
  const values = rows.map((row) => row[measure]).filter((text) => text !== "").map(Number);
  const chance = Math.min(...atlas.runs.flatMap((run) => Object.values(run.summary.agreement).map((own) => own.chance)));
  const low = { iou: chance, weighted_iou: Math.min(...values) }[measure] ?? 0;
  return [low, measure === "normalised" ? Math.max(1, ...values) : Math.max(low + 0.01, ...values)];
}

function matrix(state, { run, number }) {
  const { method, measure } = state;
  const [low, high] = colourRange(measure);
  if (!run.methods[method]) return element("p", { class: "missing" }, `${run.name}: ${method} is not in this run.`);
  const order = orderOf(run);
  const details = element("div", { class: "details", role: "status" });
  const explain = (row) => details.replaceChildren(...pairInWords(run, row));
  const cell = (a, b) => {
    const row = pairRow(run, method, a, b);
    const share = row[measure] === "" ? null : (Number(row[measure]) - low) / (high - low);
    const address = link(state, { view: "patches", run: number, a: row.network_a, b: row.network_b, sort: "low" });
    const style = share === null ? "" : shade(share);
    return element("td", {}, element("a", {
      href: address, class: `cell ${row.kind}`, style, "aria-label": sentence(run, row, measure),
      focus: () => explain(row), mouseenter: () => explain(row),
    }, share === null ? "undefined" : short(row[measure])));
  };
  const rows = order.slice(1).map((network, place) => element("tr", {},
    element("th", { scope: "row" }, breakable(network)),
    order.slice(0, -1).map((other, column) => (column <= place ? cell(other, network) : element("td")))));
  const heads = order.slice(0, -1).map((network) => element("th", { scope: "col" }, breakable(network)));
  const first = run.tables.agreement.find((row) => row.method === method && row.kind === "trained")
    ?? run.tables.agreement.find((row) => row.method === method);
  explain(first);
  const title = atlas.runs.length > 1 ? `${run.name}: ` : "";
  return element("figure", { class: "matrix" },
    element("figcaption", {}, `${title}${MEASURES[measure]}, ${method}: ${run.methods[method]}.`),
    element("div", { class: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, element("td"), heads)),
      element("tbody", {}, rows))),
    scale(low, high),
    details);
}

function scale(low, high) {
  const stops = VIRIDIS.map((_, place) => `rgb(${colour(place / (VIRIDIS.length - 1))})`);
  return element("p", { class: "scale" }, low.toFixed(2),
    element("span", { class: "bar", style: `background:linear-gradient(to right, ${stops.join(", ")})` }), high.toFixed(2),
    element("span", { class: "key ceiling" }, "ceiling: one network, two seeds"),
    element("span", { class: "key floor" }, "floor: one of them untrained"));
}

const KINDS = {
  trained: "two trained networks",
  ceiling: "one network trained from two seeds: a ceiling",
  floor: "one of them is untrained: a floor",
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
  return rows.length ? rows.map((one) => `${one.iou} (${one.network_a} ~ ${one.network_b})`).join(", ")
    : "none: neither network was trained again from another seed";
}

function normalisedInWords(row) {
  return row.normalised === "" ? `undefined: ${row.undefined || "no reason given"}`
    : `${row.normalised}, ${interval(row, "normalised")}`;
}

/** A cell in one sentence, for those who hear it. */
function sentence(run, row, measure) {
  const value = row[measure] === "" ? `undefined: ${row.undefined || "no patch where both maps say something"}` : row[measure];
  return `${row.network_a} and ${row.network_b}, ${KINDS[row.kind]}: ${MEASURES[measure]} ${value}. IoU ${row.iou || "undefined"}, `
    + `${interval(row, "iou")}; null ${row.null || "none"}; ceiling ${ceilingInWords(run, row)}. Opens the patches.`;
}

/** All that is known of a pair, in the digits of plots/agreement.csv. */
function pairInWords(run, row) {
  const facts = [
    ["IoU", row.iou === "" ? "undefined: no patch where both maps say something" : `${row.iou}, ${interval(row, "iou")}`],
    ["null", row.null === "" ? "none: no other patch of the label on another slide"
      : `${row.null}, ${interval(row, "null")}: the same two networks on different patches`],
    ["chance", `${run.summary.agreement[row.method].chance}: two random masks`],
    ["ceiling", ceilingInWords(run, row)],
    ["A", normalisedInWords(row)],
    ["other measures", `kappa ${row.kappa || "–"}; rank correlation ${row.spearman || "–"}; weighted IoU `
      + `${row.weighted_iou || "–"} (its chance ${row.weighted_iou_chance || "–"})`],
    ["rests on", `${row.patches} patches of ${row.slides} slides`],
  ];
  const doubts = [row.network_a, row.network_b].map((network) => doubt(run, row.method, network)).filter(Boolean);
  if (doubts.length) facts.push(["but", doubts.join("; ")]);
  return [
    element("h3", {}, `${row.network_a} ~ ${row.network_b}`, element("small", {}, KINDS[row.kind])),
    element("dl", {}, facts.map(([name, text]) => [element("dt", {}, name), element("dd", {}, text)])),
  ];
}

/** Why one network's heatmaps may not be worth comparing. */
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

const GAP = { width: 420, height: 280, left: 56, right: 16, top: 14, bottom: 44 };

/** One point a pair of architectures: how far apart they perform, and how much they agree. */
function gapPlot(state, { run, number }) {
  const rows = run.tables.gaps.filter((row) => row.method === state.method && row.agreement !== "");
  const test = run.summary.auroc_gap[state.method];
  const title = `${atlas.runs.length > 1 ? `${run.name}: ` : ""}Do networks that perform alike agree more? `;
  if (!test || rows.length === 0) {
    return element("figure", { class: "gap" }, element("figcaption", {}, `${title}There is no pair to show.`));
  }
  const words = { normalised: "A: from null (0) to ceiling (1)", excess: "IoU above the null" }[rows[0].measure];
  const numbers = rows.map((row) => ({ x: Number(row.auroc_gap), ends: [row.low, row.agreement, row.high].map(Number) }));
  const right = 1.15 * Math.max(...numbers.map((one) => one.x), 0.001);
  const bottom = Math.min(0, ...numbers.flatMap((one) => one.ends));
  const top = Math.max(...numbers.flatMap((one) => one.ends));
  const x = (value) => GAP.left + (value / right) * (GAP.width - GAP.left - GAP.right);
  const y = (value) => GAP.height - GAP.bottom - ((value - bottom) / (top - bottom)) * (GAP.height - GAP.top - GAP.bottom);
  const marks = rows.map((row, place) => {
    const { x: gap, ends } = numbers[place];
    const said = `${row.network_a} ~ ${row.network_b}: gap in AUROC ${row.auroc_gap}, ${words} ${row.agreement}`
      + (row.low === "" ? ", no interval" : `, 95 % interval ${row.low} to ${row.high}`);
    return element("svg:a", { href: link(state, { view: "patches", run: number, a: row.network_a, b: row.network_b }), "aria-label": said },
      element("svg:title", {}, said),
      row.low === "" ? null : element("svg:line", { x1: x(gap), x2: x(gap), y1: y(ends[0]), y2: y(ends[2]), class: "interval" }),
      element("svg:circle", { cx: x(gap), cy: y(ends[1]), r: 5 }),
      rows.length > 10 ? null : element("svg:text", {
        x: x(gap) + (gap > right / 2 ? -8 : 8), y: y(ends[1]) + 4, "text-anchor": gap > right / 2 ? "end" : "start",
      }, `${row.network_a} ~ ${row.network_b}`));
  });
  const said = test.rho === null ? "Too few pairs for a rank correlation."
    : `Rank correlation ${test.rho}, p = ${test.p} over ${test.architectures} architectures`
      + (test.critical_rho === null ? ", which are too few for any to be significant." : `; only ${test.critical_rho} or more would be significant.`);
  return element("figure", { class: "gap" },
    element("figcaption", {}, title + said),
    element("svg:svg", { viewBox: `0 0 ${GAP.width} ${GAP.height}`, role: "group", "aria-label": title },
      ticks(0, right).map((value) => element("svg:text", { x: x(value), y: GAP.height - GAP.bottom + 16, "text-anchor": "middle" }, String(value))),
      ticks(bottom, top).map((value) => [
        element("svg:line", { x1: GAP.left, x2: GAP.width - GAP.right, y1: y(value), y2: y(value), class: value === 0 ? "zero" : "grid" }),
        element("svg:text", { x: GAP.left - 6, y: y(value) + 4, "text-anchor": "end" }, String(value)),
      ]),
      element("svg:text", { x: (GAP.width + GAP.left) / 2, y: GAP.height - 8, "text-anchor": "middle" }, "gap in test AUROC (0: they perform alike)"),
      element("svg:text", { x: 12, y: GAP.height / 2 - 10, "text-anchor": "middle", transform: `rotate(-90 12 ${GAP.height / 2 - 10})` }, words),
      marks));
}

/** Four to eight round values in a range. */
function ticks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [5, 2, 1].map((one) => one * power).find((one) => one <= rough);
  const found = [];
  for (let count = Math.ceil(low / step); count * step <= high; count += 1) found.push(Number((count * step).toPrecision(6)));
  return found;
}
