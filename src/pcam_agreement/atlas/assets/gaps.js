// Performance against agreement: do networks that perform alike agree more?
"use strict";

// ends of A's axis: a few values, divided by next to nothing, would press all others together
const GAP = { width: 420, height: 280, left: 56, right: 16, top: 14, bottom: 44, ends: [-1, 2] };

/** One point a pair of architectures: how far apart they perform, and how much they agree; of five or more. */
function gapPlot(state, { run, number }) {
  if (!run.methods[state.method]) return element("figure", { class: "gap" }, notIn(run, state.method));
  const rows = run.tables.gaps.filter((row) => row.method === state.method && row.agreement !== "");
  const test = run.summary.auroc_gap[state.method];
  const title = `${atlas.runs.length > 1 ? `${run.name}: ` : ""}Do architectures that perform alike agree more? `;
  if (!test || rows.length === 0) {
    return element("figure", { class: "gap" }, element("figcaption", {}, `${title}There is no pair to show.`));
  }
  const words = "A: normalised agreement";
  const networkOf = (architecture) =>
    run.networks.find((name) => run.of[name].architecture === architecture && run.of[name].trained);
  const numbers = rows.map((row) => ({
    x: Number(row.auroc_gap),
    ends: [row.low, row.agreement, row.high].map(Number),
  }));
  const right = 1.15 * Math.max(...numbers.map((item) => item.x), 0.001);
  const [lowest, highest] = [Math.min, Math.max].map((most) => most(...numbers.flatMap((item) => item.ends)));
  const bottom = Math.max(Math.min(0, lowest), GAP.ends[0]);
  const top = Math.min(Math.max(0, highest), GAP.ends[1]);
  const x = (value) => GAP.left + (value / right) * (GAP.width - GAP.left - GAP.right);
  const y = (value) => {
    const shown = Math.min(Math.max(value, bottom), top);
    return GAP.height - GAP.bottom - ((shown - bottom) / (top - bottom)) * (GAP.height - GAP.top - GAP.bottom);
  };
  const status = element("p", { class: "hint", role: "status" });
  const name = (row) => `${row.architecture_a} ~ ${row.architecture_b}`;
  const label = (row) => name(row).replaceAll("timm/", "");
  const intervals = rows.map((row, place) => {
    const { x: gap, ends } = numbers[place];
    return row.low === "" || row.high === ""
      ? null
      : element("svg:line", { x1: x(gap), x2: x(gap), y1: y(ends[0]), y2: y(ends[2]), class: "interval" });
  });
  const labels = labelPlaces(
    numbers.map(({ x: gap, ends }) => [x(gap), y(ends[1])]),
    rows.map(label),
  );
  const marks = rows.map((row, place) => {
    const { x: gap, ends } = numbers[place];
    const text =
      `${name(row)}: gap in AUROC ${digits(row.auroc_gap)}, A ${digits(row.agreement)}` +
      (row.low === "" ? ", no interval" : `, 95 % interval ${digits(row.low)} to ${digits(row.high)}`);
    return element(
      "svg:a",
      {
        href: link(state, {
          ...ALL_PATCHES,
          view: "patches",
          run: number,
          a: networkOf(row.architecture_a),
          b: networkOf(row.architecture_b),
        }),
        "aria-label": text,
        focus: () => status.replaceChildren(text),
        mouseenter: () => status.replaceChildren(text),
      },
      element("svg:title", {}, text),
      element("svg:circle", { cx: x(gap), cy: y(ends[1]), r: rows.length > 50 ? 3 : 5 }),
      labels[place] && element("svg:text", labels[place], label(row)),
    );
  });
  const result =
    test.rho === null
      ? "No rank correlation: an A is undefined, or all A or gaps are the same."
      : `Rank correlation ${digits(test.rho)}, p ${test.p < 0.005 ? "< 0.01" : `= ${digits(test.p)}`} over ` +
        `${test.architectures} architectures` +
        (test.critical_rho === null
          ? ", which are too few for any to be significant."
          : `; only beyond ±${digits(test.critical_rho)} would it be significant.`);
  const beyond =
    lowest < bottom || highest > top ? ` Values below ${GAP.ends[0]} or above ${GAP.ends[1]} lie at the edge.` : "";
  return element(
    "figure",
    { class: "gap" },
    element("figcaption", {}, title + result + beyond),
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

/** Where the label of each point [x, y] goes: beside it, where it lies on no other label and no point; else null. */
function labelPlaces(points, names) {
  const boxes = points.map(([x, y]) => ({ left: x - 5, right: x + 5, top: y - 5, bottom: y + 5 }));
  const free = (box) =>
    box.left >= GAP.left &&
    box.right <= GAP.width &&
    boxes.every(
      (other) =>
        box.left >= other.right || other.left >= box.right || box.top >= other.bottom || other.top >= box.bottom,
    );
  return points.map(([x, y], place) => {
    const width = 6.2 * names[place].length; // of text 11 pixels high, rather too much
    for (const side of [1, -1]) {
      const left = side > 0 ? x + 8 : x - 8 - width;
      const box = { left, right: left + width, top: y - 6, bottom: y + 6 };
      if (!free(box)) continue;
      boxes.push(box);
      return { x: x + 8 * side, y: y + 4, "text-anchor": side > 0 ? "start" : "end" };
    }
    return null;
  });
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
