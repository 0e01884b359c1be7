// One patch: all heatmaps of all networks, and what the sliders redraw.
"use strict";

let ahead = 0; // the timer that loads the neighbours
let scene = null; // what the sliders redraw: the state, and the canvases with their maps
const layers = new Map(); // canvases by name, kept from patch to patch: new ones take a fifth of the time to open one

function layerOf(name) {
  if (!layers.has(name)) layers.set(name, canvas());
  return layers.get(name);
}

async function renderPatch(state, run) {
  clearTimeout(ahead);
  const patch = run.byKey.get(state.patch);
  const order = listed(run, state).map((item) => item.patch);
  const place = order.indexOf(patch);
  const step = (by) => (place < 0 ? order[0] : order[place + by]);
  const to = (other, text, id) =>
    other
      ? element("a", { id, class: "button", href: link(state, { patch: other.key }) }, text)
      : element("span", { class: "button off" }, text);
  fill(
    document.getElementById("patch-title"),
    element("h2", {}, patchInWords(patch)[0].toUpperCase() + patchInWords(patch).slice(1)),
    element(
      "p",
      {},
      to(step(-1), "← previous", "previous"),
      " ",
      to(step(1), "next →", "next"),
      " ",
      element("a", { class: "button", href: link(state, { view: "patches" }) }, "all patches"),
      " ",
      place < 0
        ? "not among the patches that pass the filters"
        : `${place + 1} of ${order.length} that pass the filters`,
      element("small", {}, " (arrow keys go on)"),
    ),
  );
  const shown = await Promise.all(
    atlas.runs.map((each) => (each.byKey.has(patch.key) ? loadPatch(each, patch.key) : null)),
  );
  if (location.hash !== state.address) return; // gone on meanwhile
  fill(document.getElementById("patch-controls"), controls(state, run));
  const { tumour } = shown[atlas.runs.indexOf(run)];
  const border = tumour && state.tumour === "1" ? outline(tumour) : "";
  scene = { state: { ...state }, cells: [], shown };
  fill(document.getElementById("maps"), maps(state, run, patch, shown, border));
  fill(document.getElementById("compare"), comparison(state, run, patch, border));
  drawMaps();
  const near = [step(-1), step(1)].filter((other) => other);
  ahead = setTimeout(() => near.forEach(({ key }) => loadAhead(key)), 300);
}

/** Has a patch there before an arrow asks for it. */
function loadAhead(key) {
  for (const run of atlas.runs) if (run.byKey.has(key)) loadPatch(run, key);
}

function controls(state, run) {
  const known = fractions();
  const slider = (name, text, attributes, inWords) => {
    const output = element("output", {}, inWords(state[name]));
    const input = element("input", {
      type: "range",
      name,
      id: name,
      ...attributes,
      input: () => {
        scene.state[name] = attributes.values ? String(attributes.values[input.value]) : input.value;
        output.textContent = inWords(scene.state[name]);
        input.setAttribute("aria-valuetext", inWords(scene.state[name]));
        requestAnimationFrame(drawMaps);
      },
      change: () => go(state, { [name]: scene.state[name] }, true),
      "aria-valuetext": inWords(state[name]),
    });
    return element("label", {}, `${text} `, input, output);
  };
  return [
    slider(
      "top",
      "most important pixels",
      { min: 0, max: known.length - 1, value: known.indexOf(Number(state.top)), values: known },
      (value) => percent(Number(value)) + (Number(value) === run.fraction ? ", as in the answer" : ""),
    ),
    choice(state, "show", "show", CHOICES.show),
    slider("opacity", "opacity", { min: 0, max: 100, value: state.opacity }, (value) => `${value} %`),
    choice(state, "centre", "centre square", CHOICES.centre),
    run.masks
      ? choice(state, "tumour", "tumour outline", CHOICES.tumour)
      : element("span", { class: "missing" }, "This data set has no tumour masks."),
  ];
}

/** The trainings that a patch's table has a column of: the seeds, their mean, the untrained networks. */
function trainings() {
  const all = atlas.runs.flatMap((run) => Object.values(run.of));
  const of = (trained) => all.filter((network) => network.trained === trained).map(({ training }) => training);
  const mean = atlas.runs.some((run) => run.averaged.length) ? [MEAN] : [];
  return [...new Set([...of(true), ...mean, ...of(false)])];
}

/** The table of a patch: what the networks say, then the heatmaps by each method; a row a recipe (of each run). */
function maps(state, run, patch, shown, border) {
  const columns = trainings();
  const rows = [...new Set(atlas.runs.flatMap((each) => each.recipes))].flatMap((recipe) =>
    atlas.runs.map((each, number) => ({ recipe, run: each, number })),
  );
  const methods = [...new Set(atlas.runs.flatMap((each) => Object.keys(each.methods)))];
  const block = (head, filled) =>
    element(
      "tbody",
      {},
      head && element("tr", {}, element("th", { scope: "rowgroup", colspan: columns.length + 1 }, head)),
      rows.map((row) =>
        element(
          "tr",
          {},
          element(
            "th",
            { scope: "row" },
            breakable(row.recipe),
            atlas.runs.length > 1 ? element("small", {}, row.run.name) : null,
          ),
          filled(row),
        ),
      ),
    );
  const absent = (text) => element("td", { colspan: columns.length }, element("p", { class: "missing" }, text));
  const lacks = ({ recipe, run: each, number }, method) =>
    !each.recipes.includes(recipe)
      ? absent(`${recipe} is not in ${each.name}`)
      : method && !each.methods[method]
        ? absent(`${method} is not in ${each.name}`)
        : shown[number]
          ? null
          : absent(`this patch was not explained in ${each.name}`);
  const cells = (row, inCell) =>
    columns.map((training) => {
      const name = `${row.recipe}-${training}`;
      return element("td", {}, row.run.maps.includes(name) ? inCell(name) : null);
    });
  const inWords = (training) => (/^\d/.test(training) ? `training ${training}` : training.replace("_", " "));
  return element(
    "table",
    {},
    element(
      "thead",
      {},
      element(
        "tr",
        {},
        element("td", {}, picture(run, patch, lines(state, border)), element("small", {}, "the patch")),
        columns.map((training) => element("th", { scope: "col" }, inWords(training))),
      ),
    ),
    block(null, (row) => lacks(row) ?? cells(row, (name) => scoreInWords(row.run, patch, name))),
    methods.map((method) =>
      block(
        [method, element("small", {}, (run.methods[method] ?? {}).description ?? "")],
        (row) =>
          lacks(row, method) ?? cells(row, (name) => cell(state, { ...row, method }, name, patch, shown, border)),
      ),
    ),
  );
}

/** A network's logit on a patch beside its threshold, and whether it is right; null of a mean heatmap. */
function scoreInWords(run, { key }, network) {
  const [patch, place] = [run.byKey.get(key), run.networks.indexOf(network)];
  if (place < 0) return null;
  return element(
    "small",
    {},
    `logit ${digits(patch.logits[place])}`,
    element("br"),
    `threshold ${digits(run.of[network].threshold)}`,
    element("br"),
    patch.right[place] ? "right" : element("b", {}, "wrong"),
  );
}

function cell(state, { method, run, number }, network, patch, shown, border) {
  const status = stateOf(run, patch.key, method, network);
  const map = shown[number].maps[method][network];
  const varies = status !== "constant" && status !== "nonfinite";
  const name = mapName({ run: number, method, network });
  const layer = layerOf(name);
  if (varies) scene.cells.push({ layer, map, run });
  const [first, second] = comparedMaps(state).map(mapName);
  const pick = (which, text, chosen) =>
    element(
      "a",
      {
        class: `pick ${which}`,
        href: link(state, { [which]: name }),
        "aria-current": chosen === name ? "true" : null,
        "aria-label": `compare ${network} under ${method} as ${which}`,
        id: `${which}-${name}`,
      },
      text,
    );
  return [
    picture(run, patch, varies ? layer : null, lines(state, border)),
    element("span", { class: "picks" }, pick("first", "1st", first), pick("second", "2nd", second)),
    status ? element("span", { class: "warning", title: STATES[status] }, STATES[status].split(":")[0]) : null,
    diagnosis(shown[number].diagnostics[method][run.networks.indexOf(network)] ?? {}),
  ];
}

/** How well the method did: its diagnostics, where it has any. */
function diagnosis(diagnostics) {
  const known = Object.entries(diagnostics);
  if (!known.length) return null;
  return element(
    "details",
    { class: "faint" },
    element("summary", {}, "diagnostics"),
    known.map(([name, value]) => element("div", {}, `${name.replaceAll("_", " ")} ${digits(value)}`)),
  );
}

const CENTRE = { x: 32, y: 32, width: 32, height: 32 };

/** The centre, which the label is about, and the border of the drawn tumour. */
function lines(state, border) {
  return element(
    "svg:svg",
    { viewBox: `0 0 ${SIDE} ${SIDE}`, "aria-hidden": "true" },
    state.centre === "1" ? ["edge", "centre"].map((name) => element("svg:rect", { ...CENTRE, class: name })) : null,
    border ? element("svg:path", { d: border, class: "tumour" }) : null,
  );
}

/** All that depends on a slider. */
function drawMaps() {
  const { state, cells, shown } = scene;
  const top = Number(state.top);
  for (const { layer, map, run } of cells) {
    layer.style.opacity = state.opacity / 100;
    layer.hidden = state.show === "tissue";
    if (state.show === "heatmap") paint(layer, (image) => heatmapPixels(map, image));
    if (state.show === "mask") paint(layer, (image) => maskPixels(maskOf(run, map, top), image));
  }
  const [first, second] = comparedMaps(state).map((chosen) => maskIn(state, shown, chosen, top));
  scene.over.style.opacity = state.opacity / 100;
  if (first.weights && second.weights) {
    paint(scene.over, (image) => overlapPixels(first, second, image));
    const iou = digits(overlap(first, second));
    scene.overlap.textContent = `IoU ${iou} of the ${percent(top)} most important pixels of each`;
  } else {
    paint(scene.over, () => {});
    scene.overlap.textContent = `IoU undefined: ${[first, second]
      .map((item) => item.why)
      .filter(Boolean)
      .join("; ")}`;
  }
  scene.pairs.replaceChildren(pairTable(state, shown, top));
}
