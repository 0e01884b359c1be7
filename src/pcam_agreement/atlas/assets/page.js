// Small parts of the page that all views are made of.
"use strict";

/** An element with these attributes (functions are listeners) and children; in SVG where the name begins with svg:. */
function element(name, attributes = {}, ...children) {
  const svg = name.startsWith("svg:");
  const made = svg
    ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4))
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null));
  return made;
}

/** A labelled choice whose options are {value: text}; choosing one goes there. */
function choice(state, name, label, options, reset = {}) {
  const select = element(
    "select",
    { name, change: () => go(state, { [name]: select.value, ...reset }) },
    Object.entries(options).map(([value, text]) => element("option", { value, selected: value === state[name] }, text)),
  );
  return element("label", {}, `${label} `, select);
}

/** Put new children in place of the old ones, and the keyboard where it was: on the control of this name, or link. */
function fill(place, ...children) {
  const focused = place.contains(document.activeElement) ? document.activeElement : null;
  place.replaceChildren(...children.flat(Infinity).filter((child) => child !== null));
  const again =
    focused &&
    (focused.id
      ? document.getElementById(focused.id)
      : focused.name && place.querySelector(`[name="${focused.name}"]`));
  if (again) again.focus();
}

/** A name that may break behind its underscores. */
function breakable(name) {
  return name.split("_").map((word, place) => (place ? ["_", element("wbr"), word] : word));
}

const named = (names) => Object.fromEntries(names.map((name) => [name, name]));

/** A number, or its text, in three significant digits; – where there is none. */
function digits(value) {
  if (value === "" || value === null || value === undefined) return "–";
  const [number, short] = [Number(value), Number(value).toPrecision(3)];
  return short.includes("e+") ? String(Math.round(number)) : short;
}

/** A table with a head, a list of cells, and rows of cells. */
function tableOf(heads, rows) {
  const row = (cells) => element("tr", {}, cells);
  return element("table", {}, element("thead", {}, row(heads)), element("tbody", {}, rows.map(row)));
}

const headed = (scope, name) => element("th", { scope }, breakable(name));

/** A table of pairs of these names, each pair once, with the cell that is made of it. */
function pairsTable(names, cell) {
  return tableOf(
    [element("td"), ...names.slice(0, -1).map((name) => headed("col", name))],
    names
      .slice(1)
      .map((name, place) => [
        headed("row", name),
        ...names.slice(0, place + 1).map((other) => element("td", {}, cell(other, name))),
      ]),
  );
}

/** Of so many networks a cell is a colour alone: its number is in what is said when it is pointed at. */
const isDense = (names) => names.length > 24;

/** Of more than `upright` networks the names of columns are turned. */
const matrixClass = (names, upright) =>
  `matrix${names.length > upright ? " many" : ""}${isDense(names) ? " dense" : ""}`;

const percent = (fraction) => `${Number((100 * fraction).toFixed(2))} %`;

/** The style of a cell: its colour from 0 to 1, and writing that can be read on it. */
function shade(share) {
  const [red, green, blue] = colour(share);
  const light = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 110;
  return `background-color:rgb(${red} ${green} ${blue});color:${light ? "#000" : "#fff"}`;
}

/** A picture of the patch with room for layers above it. */
function picture(run, patch, ...layers) {
  const source = `${run.folder}/patches/${patch.key}.png`;
  return element(
    "span",
    { class: "picture" },
    element("img", { src: source, alt: "", width: SIDE, height: SIDE, loading: "lazy" }),
    layers,
  );
}

function canvas() {
  return element("canvas", { width: SIDE, height: SIDE, "aria-hidden": "true" });
}

function paint(target, draw) {
  const context = target.getContext("2d");
  const image = context.createImageData(SIDE, SIDE);
  draw(image);
  context.putImageData(image, 0, 0);
}

/** What a patch is, in words. */
function patchInWords(patch) {
  const tissue = patch.label ? "tumour" : patch.outside ? "normal, tumour outside the centre" : "normal";
  return `test patch ${patch.index}: ${tissue}, slide ${patch.slide}`;
}

const STATES = {
  constant: "constant: the map is the same everywhere, and is left out of every mean",
  nonfinite: "not finite: the map or the logit is not a number, and is left out of every mean",
  unconverged: "not converged: more steps or perturbation samples may still change the map, or were not tried",
};
