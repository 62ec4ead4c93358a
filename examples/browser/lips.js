// Views of a face -> log-mel, audio and words, by the graphs of an exported pack; see docs/export.md.

import * as ort from "./vendor/ort.wasm.min.mjs";
import { griffinLim } from "./sound.js";
import { words } from "./words.js";

ort.env.wasm.wasmPaths = new URL("./vendor/", import.meta.url).href;
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;

const GRAPHS = ["encoder", "decoder", "postnet", "magnitude", "recognizer"];

/** Load an exported pack from a folder. */
export async function load(folder, progress) {
  const settings = await (await fetch(`${folder}/export.json`)).json();
  const info = await (await fetch(`${folder}/pack.json`)).json();
  const graphs = {};
  for (const [i, name] of GRAPHS.entries()) {
    if (settings.graphs[name]) graphs[name] = await ort.InferenceSession.create(`${folder}/${name}.onnx`);
    progress((i + 1) / GRAPHS.length);
  }
  return { settings, info, graphs };
}

/** Read lips: planes of pixels for each frame -> log-mel, one row of frames for each band. */
export async function speak(pack, views, progress) {
  const { window, overlap, video } = pack.settings.model;
  const size = Math.min(window, views.length);
  const starts = evenly(views.length, size, Math.min(overlap, size - 1));
  const parts = [];
  for (const [i, start] of starts.entries()) {
    const mel = await predict(pack, views.slice(start, start + size), video);
    parts.push({ start, mel });
    progress((i + 1) / starts.length);
  }
  return joined(pack.settings, parts, views.length);
}

/** Turn log-mel into audio by Griffin-Lim. */
export async function vocode(pack, mel) {
  const { magnitude } = await pack.graphs.magnitude.run({ mel: tensor(mel.data, [1, mel.bands, mel.frames]) });
  return griffinLim(magnitude, mel, pack.settings);
}

/** Read words from audio. */
export async function read(pack, wave) {
  if (!pack.graphs.recognizer) return [];
  const { posteriors } = await pack.graphs.recognizer.run({ wave: tensor(wave, [1, wave.length]) });
  return words(posteriors.data, posteriors.dims[2], pack.settings);
}

async function predict(pack, views, video) {
  const { size, channels } = video, plane = size * size;
  const pixels = new Uint8Array(channels * views.length * plane);
  views.forEach((view, t) => {
    for (let k = 0; k < channels; k++) {
      pixels.set(view.subarray(k * plane, (k + 1) * plane), (k * views.length + t) * plane);
    }
  });
  const shape = [1, channels, views.length, size, size];
  const encoded = await pack.graphs.encoder.run({ video: new ort.Tensor("uint8", pixels, shape) });
  const frames = melFrames(pack.settings, views.length);
  const mel = await decode(pack, encoded, frames);
  const { after } = await pack.graphs.postnet.run({ mel: tensor(mel, [1, mel.length / frames, frames]) });
  return { data: after.data, bands: after.dims[1], frames };
}

async function decode(pack, { memory, keys }, frames) {
  const bands = pack.settings.model.audio.n_mels, mel = new Float32Array(bands * frames);
  const put = (part, first) => {
    const count = part.dims[2];
    for (let band = 0; band < bands; band++) {
      for (let i = 0; i < Math.min(count, frames - first); i++) {
        mel[band * frames + first + i] = part.data[band * count + i];
      }
    }
  };
  if (!keys) {
    put((await pack.graphs.decoder.run({ memory })).mel, 0);
    return mel;
  }
  let state = initial(pack.settings, memory.dims[1]);
  let previous = tensor(new Float32Array(bands), [1, bands]);
  for (let first = 0; first < frames; ) {
    const found = await pack.graphs.decoder.run({ previous, memory, keys, ...state });
    state = Object.fromEntries(Object.keys(state).map((name) => [name, found[`next_${name}`]]));
    put(found.mel, first);
    const step = found.mel.dims[2];
    previous = tensor(Float32Array.from({ length: bands }, (_, band) => found.mel.data[(band + 1) * step - 1]), [1, bands]);
    first += step;
  }
  return mel;
}

/** Return the decoder's first state: zeros, and all attention on the first frame. */
function initial(settings, frames) {
  const ports = settings.graphs.decoder.inputs.filter(({ name }) => !["previous", "memory", "keys"].includes(name));
  return Object.fromEntries(ports.map(({ name, shape }) => {
    const size = shape[1] === "frames" ? frames : shape[1], values = new Float32Array(size);
    if (["weights", "cumulative"].includes(name)) values[0] = 1;
    return [name, tensor(values, [1, size])];
  }));
}

function evenly(length, size, overlap) {
  if (length <= size) return [0];
  const count = Math.ceil((length - overlap) / (size - overlap));
  return Array.from({ length: count }, (_, i) => Math.round((i * (length - size)) / (count - 1)));
}

/** Join the mels of windows, which fade into one another. */
function joined(settings, parts, videoFrames) {
  const frames = melFrames(settings, videoFrames), { bands } = parts[0].mel;
  const fade = Math.max(1, melFrames(settings, settings.model.overlap));
  const data = new Float32Array(bands * frames), weight = new Float32Array(frames);
  for (const { start, mel } of parts) {
    const first = melFrames(settings, start), length = Math.min(mel.frames, frames - first);
    for (let i = 0; i < length; i++) {
      const rise = first > 0 ? i + 1 : fade, fall = first + length < frames ? length - i : fade;
      const share = Math.min(rise, fall, fade) / fade;
      weight[first + i] += share;
      for (let band = 0; band < bands; band++) data[band * frames + first + i] += share * mel.data[band * mel.frames + i];
    }
  }
  for (let i = 0; i < data.length; i++) data[i] /= weight[i % frames];
  return { data, bands, frames };
}

function melFrames(settings, videoFrames) {
  const [numerator, denominator] = settings.derived.mel_frames_per_video_frame;
  return Math.floor((videoFrames * numerator) / denominator);
}

const tensor = (data, shape) => new ort.Tensor("float32", data, shape);
