// Two heatmaps of a patch over each other, and the IoU of all pairs of networks on it.
"use strict";

/** Two maps over each other, and the IoU of every pair of networks under the method and in the run of the first. */
function comparison(state, run, patch, border) {
  scene.over = layerOf("over");
  scene.overlap = element("output", { id: "overlap" });
  scene.pairs = document.getElementById("pairs");
  const select = (which, chosen) => {
    const options = atlas.runs.flatMap((each, number) =>
      scene.shown[number]
        ? Object.keys(each.methods).flatMap((method) =>
            each.maps.map((network) => ({ run: number, method, network })),
          )
        : [],
    );
    const box = element(
      "select",
      { name: which, change: () => go(state, { [which]: box.value }) },
      options.map((map) =>
        element("option", { value: mapName(map), selected: mapName(map) === mapName(chosen) }, mapInWords(map)),
      ),
    );
    return element("label", { class: which }, which === "first" ? "1st " : "2nd ", box);
  };
  const [first, second] = comparedMaps(state);
  return [
    element("h3", {}, "Two heatmaps over each other"),
    select("first", first),
    select("second", second),
    element("div", { class: "large grey" }, picture(run, patch, scene.over, lines(state, border))),
    element(
      "p",
      { class: "legend" },
      element("span", { class: "both" }, "both"),
      element("span", { class: "only first" }, "1st only"),
      element("span", { class: "only second" }, "2nd only"),
    ),
    element("p", {}, scene.overlap),
  ];
}

function mapInWords({ run, method, network }) {
  return `${network}, ${method}${atlas.runs.length > 1 ? `, ${atlas.runs[run].name}` : ""}`;
}

/** What is wrong with a heatmap of a patch; the mean of a recipe is constant where all of its trainings are. */
function stateOf(run, key, method, map) {
  const states = run.byKey.get(key).state[method];
  if (run.networks.includes(map)) return states[run.networks.indexOf(map)];
  const parts = run.networks.filter((name) => run.of[name].trained && map === `${run.of[name].recipe}-${MEAN}`);
  const gone = parts.every((name) => ["constant", "nonfinite"].includes(states[run.networks.indexOf(name)]));
  return gone ? "constant" : "";
}

/** A mask, or why there is none. */
function maskIn(state, shown, { run: number, method, network }, top) {
  const run = atlas.runs[number];
  if (!shown[number]) return { why: `this patch was not explained in ${run.name}` };
  const status = stateOf(run, state.patch, method, network);
  if (status === "constant" || status === "nonfinite")
    return { why: `the map of ${network} is ${STATES[status].split(":")[0]}` };
  return maskOf(run, shown[number].maps[method][network], top);
}

/** The IoU of all pairs of networks on this patch, under the method and in the run of the first map. */
function pairTable(state, shown, top) {
  const { run: number, method } = comparedMaps(state)[0];
  const run = atlas.runs[number];
  if (!shown[number]) return element("p");
  const order = orderOf(run);
  const both = comparedMaps(state);
  const here = both.every((map) => map.run === number && map.method === method);
  const chosen = new Set(here ? both.map((map) => map.network) : []);
  const masks = Object.fromEntries(
    run.networks.map((network) => [network, maskIn(state, shown, { run: number, method, network }, top)]),
  );
  const cell = (a, b) => {
    const iou = masks[a].weights && masks[b].weights ? overlap(masks[a], masks[b]) : null;
    const names = {
      first: mapName({ run: number, method, network: a }),
      second: mapName({ run: number, method, network: b }),
    };
    const text = iou === null ? "–" : digits(iou);
    return element(
      "a",
      {
        class: "cell",
        href: link(state, names),
        "aria-current": chosen.has(a) && chosen.has(b) ? "true" : null,
        style: iou === null ? "" : shade(iou),
        title: isDense(order) ? `${a} ~ ${b}: ${text}` : null,
      },
      isDense(order) && iou !== null ? "" : text,
    );
  };
  return element(
    "figure",
    { class: matrixClass(order, 4) },
    element("figcaption", {}, `IoU of every pair on this patch, ${method}, at ${percent(top)} (colours from 0 to 1)`),
    pairsTable(order, cell),
  );
}
