// What the networks share: the bar of the shares, and what the recipes' trainings are worth.
"use strict";

const SHARES = {
  common: "shared by two recipes (mean)",
  input: "common, untrained networks see it as well",
  learned: "common, learned",
  recipe: "of the recipe",
  training: "of the single training",
  noise: "noise of the method",
};

/** A value with its interval: in percent, or with three digits. */
const ends = (row, form = digits) =>
  form(row.value) + (row.low === "" && row.high === "" ? "" : ` (${form(row.low)} to ${form(row.high)})`);
const whole = (text) => (text === "" ? "–" : `${Math.round(100 * Number(text))}`.replace("-0", "0"));

/** One bar a method, of the patch-specific overlap of a network with itself. A share below 0 has no width. */
function shares(run) {
  const rows = run.tables.shares.filter(
    (row) => row.label === "both" && Number(row.sigma) === run.sigma && Number(row.fraction) === run.fraction,
  );
  const known = Object.keys(run.methods).map((method) => {
    const of = Object.fromEntries(rows.filter((row) => row.method === method).map((row) => [row.share, row]));
    const split = of.input.value !== "";
    const drawn = Object.keys(SHARES).filter(
      (name) => of[name].value !== "" && (split ? name !== "common" : name !== "input" && name !== "learned"),
    );
    return { method, of, drawn };
  });
  const keys = Object.keys(SHARES).filter((name) => known.some(({ drawn }) => drawn.includes(name)));
  const range = extent(known);
  return element(
    "figure",
    { class: "shares" },
    known.map(({ method, of, drawn }) => [
      element("h3", {}, run.methods[method].title),
      drawn.length
        ? bar(of, drawn, range)
        : element("p", { class: "missing" }, `undefined: ${of.common.reason}`),
    ]),
    element(
      "figcaption",
      {},
      keys.map((name) => element("span", { class: `key share ${name}` }, SHARES[name])),
      keys.length ? element("small", {}, "lines: 95 % intervals of the widths") : null,
    ),
  );
}

/** Where each share is drawn, from where the one before ends, and its interval: {name, start, end, low, high}. */
function places(of, drawn) {
  let end = 0;
  return drawn.map((name) => {
    const [start, { value, low, high }] = [end, of[name]];
    end += Math.max(0, Number(value));
    const line = low === "" || high === "" ? {} : { low: start + Number(low), high: start + Number(high) };
    return { name, start, end, ...line };
  });
}

/** What all bars show of the axis: the whole, and what intervals need of the room beside it. */
function extent(known) {
  const all = known.flatMap(({ of, drawn }) => places(of, drawn)).flatMap(({ end, low, high }) => [end, low, high]);
  const values = all.filter((value) => value !== undefined);
  return [Math.max(-0.3, Math.min(0, ...values)), Math.min(1.4, Math.max(1, ...values))];
}

function bar(of, drawn, [left, right]) {
  const at = (value) => `${(100 * (value - left)) / (right - left)}%`;
  const span = (from, to) => `left:${at(from)};width:${(100 * (to - from)) / (right - left)}%`;
  const all = places(of, drawn);
  return element(
    "div",
    { class: "stack", role: "img", "aria-label": sharesInWords(of) },
    all.map(({ name, start, end }) =>
      element("span", {
        class: `share ${name}`,
        style: span(start, end),
        title: `${SHARES[name]}: ${ends(of[name], whole)} %`,
      }),
    ),
    all.map(({ low, high }, place) =>
      low === undefined
        ? null
        : element("span", {
            class: "whisker",
            style: `${span(low, high)};top:${(100 * (place + 1)) / (drawn.length + 1)}%`,
          }),
    ),
  );
}

function sharesInWords(of) {
  return Object.keys(SHARES)
    .filter((name) => of[name].value !== "")
    .map((name) => `${SHARES[name]} ${ends(of[name], whole)} %`)
    .join("; ");
}

/** Agreement of the recipes, and how many trainings of each must be averaged. */
function recipeTables(state, { run }) {
  const { method } = state;
  if (!run.methods[method]) return notIn(run, method);
  const of = (table) => run.tables[table].filter((row) => row.method === method);
  const title = atlas.runs.length > 1 ? `${run.name}, ${method}: ` : `${method}: `;
  const needed = of("reliability").filter((row) => row.trainings === "1");
  const count = (text) => (text === "" ? "–" : String(Math.ceil(Number(text))));
  const trainings = ({ needed: value, needed_low: low, needed_high: high }) =>
    high === "inf" ? `${count(value)} (at least ${count(low)})` : ends({ value, low, high }, count);
  const value = (row) => (row.value === "" ? `undefined: ${row.reason}` : ends(row));
  const table = (caption, heads, rows) => [
    element("p", {}, title + caption),
    tableOf(
      heads.map((head) => headed("col", head)),
      rows.map((row) => row.map((cell) => element("td", {}, cell))),
    ),
  ];
  return [
    table(
      "A, normalised agreement",
      ["recipes", "A (95 % interval)"],
      of("recipes").map((row) => [`${row.recipe_a} ~ ${row.recipe_b}`, value(row)]),
    ),
    table(
      "trainings to average",
      ["recipe", "reliability of one training", "trainings for .8"],
      needed.map((row) => [row.recipe, value(row), trainings(row)]),
    ),
  ];
}
