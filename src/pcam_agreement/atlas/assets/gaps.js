// Performance against agreement: do networks that perform alike agree more?
"use strict";

const GAP = { width: 420, height: 280, left: 56, right: 16, top: 14, bottom: 44 };

/** One point a pair of architectures: how far apart they perform, and how much they agree. */
function gapPlot(state, { run, number }) {
  if (!run.methods[state.method]) return element("figure", { class: "gap" }, notIn(run, state.method));
  const rows = run.tables.gaps.filter((row) => row.method === state.method && row.agreement !== "");
  const test = run.summary.auroc_gap[state.method];
  const title = `${atlas.runs.length > 1 ? `${run.name}: ` : ""}Do networks that perform alike agree more? `;
  if (!test || rows.length === 0) {
    return element("figure", { class: "gap" }, element("figcaption", {}, `${title}There is no pair to show.`));
  }
  const words = { normalised: "A: from null (0) to ceiling (1)", excess: "IoU above the null" }[rows[0].measure];
  const numbers = rows.map((row) => ({
    x: Number(row.auroc_gap),
    ends: [row.low, row.agreement, row.high].map(Number),
  }));
  const right = 1.15 * Math.max(...numbers.map((item) => item.x), 0.001);
  const bottom = Math.min(0, ...numbers.flatMap((item) => item.ends));
  const top = Math.max(...numbers.flatMap((item) => item.ends));
  const x = (value) => GAP.left + (value / right) * (GAP.width - GAP.left - GAP.right);
  const y = (value) =>
    GAP.height - GAP.bottom - ((value - bottom) / (top - bottom)) * (GAP.height - GAP.top - GAP.bottom);
  const status = element("p", { class: "hint", role: "status" });
  const name = (row) => `${row.network_a} ~ ${row.network_b}`;
  const intervals = rows.map((row, place) => {
    const { x: gap, ends } = numbers[place];
    return row.low === ""
      ? null
      : element("svg:line", { x1: x(gap), x2: x(gap), y1: y(ends[0]), y2: y(ends[2]), class: "interval" });
  });
  const labels = labelPlaces(numbers.map(({ x: gap, ends }) => [x(gap), y(ends[1])]));
  const marks = rows.map((row, place) => {
    const { x: gap, ends } = numbers[place];
    const text =
      `${name(row)}: gap in AUROC ${row.auroc_gap}, ${words} ${row.agreement}` +
      (row.low === "" ? ", no interval" : `, 95 % interval ${row.low} to ${row.high}`);
    return element(
      "svg:a",
      {
        href: link(state, { ...ALL_PATCHES, view: "patches", run: number, a: row.network_a, b: row.network_b }),
        "aria-label": text,
        focus: () => status.replaceChildren(text),
        mouseenter: () => status.replaceChildren(text),
      },
      element("svg:title", {}, text),
      element("svg:circle", { cx: x(gap), cy: y(ends[1]), r: 5 }),
      rows.length > 10
        ? null
        : element(
            "svg:text",
            {
              x: x(gap) + (gap > right / 2 ? -8 : 8),
              y: labels[place] + 4,
              "text-anchor": gap > right / 2 ? "end" : "start",
            },
            name(row),
          ),
    );
  });
  const result =
    test.rho === null
      ? "Too few pairs for a rank correlation."
      : `Rank correlation ${test.rho}, p = ${test.p} over ${test.architectures} architectures` +
        (test.critical_rho === null
          ? ", which are too few for any to be significant."
          : `; only beyond ±${test.critical_rho} would it be significant.`);
  return element(
    "figure",
    { class: "gap" },
    element("figcaption", {}, title + result),
    element(
      "svg:svg",
      { viewBox: `0 0 ${GAP.width} ${GAP.height}`, role: "group", "aria-label": title },
      ticks(0, right).map((value) =>
        element("svg:text", { x: x(value), y: GAP.height - GAP.bottom + 16, "text-anchor": "middle" }, String(value)),
      ),
      ticks(bottom, top).map((value) => [
        element("svg:line", {
          x1: GAP.left,
          x2: GAP.width - GAP.right,
          y1: y(value),
          y2: y(value),
          class: value === 0 ? "zero" : "grid",
        }),
        element("svg:text", { x: GAP.left - 6, y: y(value) + 4, "text-anchor": "end" }, String(value)),
      ]),
      element(
        "svg:text",
        { x: (GAP.width + GAP.left) / 2, y: GAP.height - 8, "text-anchor": "middle" },
        "gap in test AUROC (0: they perform alike)",
      ),
      element(
        "svg:text",
        { x: 12, y: GAP.height / 2 - 10, "text-anchor": "middle", transform: `rotate(-90 12 ${GAP.height / 2 - 10})` },
        words,
      ),
      intervals,
      marks,
    ),
    status,
  );
}

/** The heights of labels beside points [x, y]: those of the points, moved down where two would lie on each other. */
function labelPlaces(points) {
  const heights = points.map(([, height]) => height);
  const order = heights.map((_, place) => place).sort((first, second) => heights[first] - heights[second]);
  order.forEach((place, rank) => {
    for (const before of order.slice(0, rank)) {
      if (Math.abs(points[before][0] - points[place][0]) < 150)
        heights[place] = Math.max(heights[place], heights[before] + 12);
    }
  });
  return heights;
}

/** Four to eight round values in a range. */
function ticks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [5, 2, 1].map((digit) => digit * power).find((size) => size <= rough);
  const values = [];
  for (let count = Math.ceil(low / step); count * step <= high; count += 1)
    values.push(Number((count * step).toPrecision(6)));
  return values;
}
