// What the page shows: all of it is in the address, behind the #, so that every view is a link.
"use strict";

const atlas = { runs: [], loading: new Map() };

/** Called by each run.js: the run's numbers. */
atlas.addRun = (run) => {
  const script = document.currentScript;
  run.folder = script.dataset.folder;
  run.name = script.dataset.name;
  run.of = Object.fromEntries(run.networks.map((name, place) => [name, run.of[place]]));
  run.recipes = [...new Set(Object.values(run.of).map(({ recipe }) => recipe))];
  run.maps = [...run.networks, ...run.averaged.map((recipe) => `${recipe}-${MEAN}`)];
  run.byKey = new Map(run.patches.map((patch) => [patch.key, patch]));
  for (const [name, { columns, data }] of Object.entries(run.tables)) {
    run.tables[name] = data.map((row) => Object.fromEntries(row.map((value, place) => [columns[place], value])));
  }
  atlas.runs.push(run);
};

const MEAN = "mean"; // in the place of a training: the mean heatmap of a recipe's trainings

/** Called by the script of a patch. */
atlas.addPatch = (content) => {
  document.currentScript.content = content;
};

/** The maps of a patch of a run, [method][network or mean], its tumour mask or null, and the methods' diagnostics. */
function loadPatch(run, key) {
  const path = `${run.folder}/patches/${key}`;
  if (!atlas.loading.has(path)) {
    atlas.loading.set(
      path,
      new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `${path}.js`;
        script.onload = () => {
          decode(run, script.content).then(resolve, reject);
          script.remove();
        };
        script.onerror = () => reject(new Error(`${path}.js is missing; copy the whole folder of the atlas.`));
        document.head.append(script);
      }),
    );
  }
  return atlas.loading.get(path);
}

async function decode(run, content) {
  const text = atob(content.codes);
  const deflated = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place += 1) deflated[place] = text.charCodeAt(place);
  const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const plane = (number) => bytes.subarray(number * PIXELS, (number + 1) * PIXELS);
  const methods = Object.keys(run.methods);
  const maps = {};
  methods.forEach((method, row) => {
    maps[method] = {};
    run.maps.forEach((name, column) => {
      maps[method][name] = makeMap(plane(row * run.maps.length + column));
    });
  });
  const tumour = run.masks ? plane(methods.length * run.maps.length) : null;
  return { maps, tumour, diagnostics: content.diagnostics };
}

const DEFAULTS = {
  view: "answer",
  run: "0",
  method: "",
  measure: "correlation",
  a: "",
  b: "",
  label: "all",
  right: "all",
  slide: "all",
  quarter: "all",
  outside: "all",
  sort: "low",
  masks: "1",
  patch: "",
  first: "",
  second: "",
  show: "heatmap",
  top: "",
  opacity: "65",
  centre: "1",
  tumour: "1",
};

/** Of a link to the patches of a pair: none is left out, and nothing is as somebody chose it elsewhere. */
const ALL_PATCHES = Object.fromEntries(
  ["label", "right", "slide", "quarter", "outside", "sort", "top", "patch", "first", "second"].map((name) => [
    name,
    DEFAULTS[name],
  ]),
);

/** The state that a link asks for; what is not there is replaced, with a notice. */
function readState() {
  const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const state = { ...DEFAULTS, ...asked };
  const notices = [];
  const expect = (name, known, otherwise, what) => {
    if (known.includes(state[name])) return;
    if (asked[name]) notices.push(`The link asks for ${what} “${asked[name]}”, which is not here.`);
    state[name] = otherwise;
  };
  expect("view", ["answer", "patches", "patch"], "answer", "the view");
  expect(
    "run",
    atlas.runs.map((_, number) => String(number)),
    "0",
    "the run",
  );
  const run = atlas.runs[Number(state.run)];
  // The answer shows all runs, and a method of any of them.
  const methods = (state.view === "answer" ? atlas.runs : [run]).flatMap((each) => Object.keys(each.methods));
  expect("method", methods, methods[0], "the method");
  expect("measure", Object.keys(MEASURES), DEFAULTS.measure, "the measure");
  const pair = firstPair(run);
  if (asked.a && asked.a === asked.b) notices.push(`The link asks for “${asked.a}” twice.`);
  if (asked.a === asked.b) state.b = "";
  expect(
    "a",
    run.networks,
    pair.find((name) => name !== state.b),
    "the network",
  );
  expect(
    "b",
    run.networks.filter((name) => name !== state.a),
    pair.find((name) => name !== state.a),
    "the network",
  );
  for (const [name, choices] of Object.entries(CHOICES)) expect(name, Object.keys(choices), DEFAULTS[name], name);
  expect("slide", ["all", ...slides(run)], "all", "the slide");
  expect("top", fractions().map(String), String(nearest(fractions(), run.fraction)), "the top fraction");
  if (!(/^\d+$/.test(state.opacity) && Number(state.opacity) <= 100)) {
    notices.push(`The link asks for the opacity “${state.opacity}”, which is not here.`);
    state.opacity = DEFAULTS.opacity;
  }
  if (state.view === "patch")
    expect(
      "patch",
      run.patches.map((item) => item.key),
      run.patches[0].key,
      "the patch",
    );
  for (const name of ["first", "second"]) {
    if (state[name] && !readMap(state[name])) {
      notices.push(`The link asks for the heatmap “${state[name]}”, which is not here.`);
      state[name] = "";
    }
  }
  return { state, run, notices };
}

/** The pair that is shown by default: trained networks of two recipes, if there is such a pair. */
function firstPair(run) {
  const rows = run.tables.agreement;
  const row = ["between", "within"].map((kind) => rows.find((item) => item.kind === kind)).find(Boolean) ?? rows[0];
  return [row.network_a, row.network_b];
}

/** The top fractions that all runs have exact masks of. */
function fractions() {
  const [first, ...others] = atlas.runs.map((run) => run.steps.map(([fraction]) => fraction));
  return first.filter((fraction) => others.every((known) => known.includes(fraction)));
}

function nearest(values, wanted) {
  return values.reduce((best, value) => (Math.abs(value - wanted) < Math.abs(best - wanted) ? value : best));
}

/** A heatmap is named run.method.network in a link: no name has a dot in it. */
function mapName({ run, method, network }) {
  return `${run}.${method}.${network}`;
}

function readMap(name) {
  const [run, method, network] = name.split(".");
  const its = atlas.runs[Number(run)];
  const known = its && Object.hasOwn(its.methods, method) && its.maps.includes(network);
  return known ? { run: Number(run), method, network } : null;
}

/** The two heatmaps that are laid over each other: those chosen, else the pair's. */
function comparedMaps(state) {
  const { run, method, a, b } = state;
  return [
    readMap(state.first || mapName({ run, method, network: a })),
    readMap(state.second || mapName({ run, method, network: b })),
  ];
}

/** The address of this state with some changes; what is as it is anyhow is left out. */
function link(state, changes = {}) {
  const wanted = Object.entries({ ...state, ...changes });
  return `#${new URLSearchParams(wanted.filter(([name, value]) => name in DEFAULTS && value !== DEFAULTS[name]))}`;
}

/** Go there; as a new step of the browser's history, or in place of this one. */
function go(state, changes, replace = false) {
  const address = link(state, changes);
  if (!replace) location.hash = address;
  else {
    history.replaceState(null, "", address);
    render();
  }
}
