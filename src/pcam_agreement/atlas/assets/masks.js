// Masks and their overlap from the codes that encoding.py makes, and their colours. Arrays in, arrays out.
"use strict";

const SIDE = 96;
const PIXELS = SIDE * SIDE;

// Viridis: survives colour blindness and grey print. Okabe and Ito's blue and orange; what both hold is black.
const VIRIDIS = [
  [68, 1, 84],
  [71, 44, 122],
  [59, 81, 139],
  [44, 113, 142],
  [33, 144, 141],
  [39, 173, 129],
  [92, 200, 99],
  [170, 220, 50],
  [253, 231, 37],
];
const ONLY_FIRST = [0, 114, 178];
const ONLY_SECOND = [230, 159, 0];

/** The colour [r, g, b] at 0 (violet) to 1 (yellow). */
function colour(share) {
  const place = Math.min(1, Math.max(0, share)) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return VIRIDIS[low].map((from, channel) => Math.round(from + (place - low) * (VIRIDIS[low + 1][channel] - from)));
}

/** A map to work with: its codes, how many pixels have each code, and how many matter more than those. */
function makeMap(codes) {
  const count = new Uint32Array(256);
  const before = new Uint32Array(256);
  for (const code of codes) count[code] += 1;
  for (let code = 1; code < 256; code += 1) before[code] = before[code - 1] + count[code - 1];
  return { codes, count, before };
}

/** The weight of each code in the mask of so many pixels: pixels that tie divide what is left of it, or are all in. */
function weights(map, size, ties) {
  return Float64Array.from(map.count, (number, code) => {
    if (number === 0) return 0;
    if (ties === "all") return map.before[code] < size ? 1 : 0;
    return Math.min(1, Math.max(0, (size - map.before[code]) / number));
  });
}

/** The overlap of two masks: the sum of the lesser weights over the sum of the greater ones. */
function overlap(first, second) {
  let intersection = 0;
  let union = 0;
  for (let pixel = 0; pixel < PIXELS; pixel += 1) {
    const a = first.weights[first.map.codes[pixel]];
    const b = second.weights[second.map.codes[pixel]];
    intersection += a < b ? a : b;
    union += a < b ? b : a;
  }
  return union > 0 ? intersection / union : null;
}

/** The colours of a heatmap: a pixel's by its rank in the patch, those that tie by the middle of their ranks.
 *  They fade towards the less important half, where the tissue shows. */
function heatmapPixels(map, image) {
  const palette = Uint32Array.from(map.count, (number, code) => {
    const rank = (map.before[code] + number / 2) / PIXELS;
    return number > 0 && rank < 0.5 ? packed(colour(1 - 2 * rank), 255 * Math.min(1, 2.5 - 5 * rank)) : 0;
  });
  const out = new Uint32Array(image.data.buffer);
  for (let pixel = 0; pixel < PIXELS; pixel += 1) out[pixel] = palette[map.codes[pixel]];
}

/** The pixels of a mask in one colour, paler where their weight is below 1. */
function maskPixels(mask, image) {
  const palette = Uint32Array.from(mask.weights, (weight) => packed(ONLY_FIRST, 255 * weight));
  const out = new Uint32Array(image.data.buffer);
  for (let pixel = 0; pixel < PIXELS; pixel += 1) out[pixel] = palette[mask.map.codes[pixel]];
}

/** Two masks over each other: the pixels of both, and those of only one. */
function overlapPixels(first, second, image) {
  const out = new Uint32Array(image.data.buffer);
  for (let pixel = 0; pixel < PIXELS; pixel += 1) {
    const a = first.weights[first.map.codes[pixel]];
    const b = second.weights[second.map.codes[pixel]];
    const either = Math.max(a, b);
    const alone = either > 0 ? Math.abs(a - b) / either : 0;
    const [red, green, blue] = a > b ? ONLY_FIRST : ONLY_SECOND;
    out[pixel] = packed([red * alone, green * alone, blue * alone], 255 * either);
  }
}

/** The border of a region [pixels] of 0 and 1, as the path of an SVG in pixels. */
function outline(region) {
  const inside = (row, column) =>
    row >= 0 && column >= 0 && row < SIDE && column < SIDE && region[row * SIDE + column] > 0;
  let path = "";
  for (let row = 0; row <= SIDE; row += 1) {
    for (let column = 0; column <= SIDE; column += 1) {
      if (inside(row, column) !== inside(row - 1, column)) path += `M${column} ${row}h1`;
      if (inside(row, column) !== inside(row, column - 1)) path += `M${column} ${row}v1`;
    }
  }
  return path;
}

/** A colour as an ImageData holds it, in the byte order of all machines that browsers run on. */
function packed([red, green, blue], alpha) {
  return ((Math.round(alpha) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
