// The page: a file or the camera -> what was said, to hear, to read and to keep.

import { follow, loadDetector, view } from "./faces.js";
import { CameraFrames, FileFrames, opened, record } from "./frames.js";
import { load, read, speak, vocode } from "./lips.js";
import { wav } from "./sound.js";

const PACK = "./pack";
const LONGEST = { file: 60, camera: 10 };
const at = (id) => document.getElementById(id);
const video = at("video");
let loaded = null;
let busy = false;
let recording = false;

function tell(text, share = null) {
  at("status").textContent = text;
  at("progress").hidden = share === null;
  if (share !== null) at("progress").value = share;
}

const REFUSED = {
  NotFoundError: "No camera was found: plug one in, or take a video file.",
  NotAllowedError: "The camera was not allowed: allow it beside the address, or take a video file.",
  NotReadableError: "The camera is used by something else: close that, or take a video file.",
};

async function openCamera() {
  try {
    const wanted = { width: { ideal: 640 }, frameRate: { ideal: 25 } };
    return await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
  } catch (error) {
    throw new Error(REFUSED[error.name] ?? error.message);
  }
}

/** Load the pack once, and say whom it knows. */
function prepare() {
  loaded ??= (async () => {
    const pack = await load(PACK, (share) => tell("Loading the model", share));
    return { pack, detector: await loadDetector(`${PACK}/faces`) };
  })();
  return loaded;
}

async function work(make) {
  if (busy) return;
  busy = true;
  setEnabled(false);
  at("result").hidden = true;
  try {
    const { pack, detector } = await prepare();
    const frames = await make(pack.settings.model.video.fps);
    if (frames) await show(pack, await understand(pack, detector, frames));
  } catch (error) {
    at("status").dataset.kind = "error";
    tell(error.message);
  } finally {
    busy = false;
    setEnabled(true);
  }
}

async function understand(pack, detector, frames) {
  delete at("status").dataset.kind;
  const began = performance.now();
  const points = await follow(frames, detector, (share) => tell("Finding the face", share));
  const views = [];
  for (let i = 0; i < frames.count; i++) {
    views.push(await view(frames, i, points[i], pack.settings));
    tell("Cutting out the lips", (i + 1) / frames.count);
  }
  tell("Reading lips", 0);
  await painted();
  const mel = await speak(pack, views, (share) => tell("Reading lips", share));
  tell("Making sound", 0.9);
  await painted();
  const wave = await vocode(pack, mel);
  const words = await read(pack, wave);
  return { mel, wave, words, seconds: frames.count / frames.rate, took: (performance.now() - began) / 1000 };
}

async function show(pack, { mel, wave, words, seconds, took }) {
  const rate = pack.settings.model.audio.sample_rate;
  const url = URL.createObjectURL(wav(wave, rate));
  at("audio").src = at("download").href = url;
  const text = words.map((word) => word.text).join(" ");
  at("text").textContent = text || "No words were recognised.";
  at("words").replaceChildren(...words.map(told));
  draw(at("mel"), mel);
  at("result").hidden = false;
  at("knows").textContent = `The pack ${pack.info.name} knows ${pack.info.knows}. Of other people it makes one of these voices and these words: do not trust what it says.`;
  tell(`Done: ${seconds.toFixed(1)} s of video in ${took.toFixed(1)} s.`);
  at("result-title").focus();
}

function told(word) {
  const item = document.createElement("li");
  const name = document.createElement("b");
  name.textContent = word.text;
  item.append(name, ` ${word.start.toFixed(2)} s, ${Math.round(100 * word.confidence)} %`);
  return item;
}

function draw(canvas, { data, bands, frames }) {
  canvas.width = frames;
  canvas.height = bands;
  const low = Math.min(...data.subarray(0, 200000)), high = Math.max(...data.subarray(0, 200000));
  const context = canvas.getContext("2d"), picture = context.createImageData(frames, bands);
  for (let band = 0; band < bands; band++) {
    for (let t = 0; t < frames; t++) {
      const share = (data[band * frames + t] - low) / (high - low || 1);
      picture.data.set(colour(share), ((bands - 1 - band) * frames + t) * 4);
    }
  }
  context.putImageData(picture, 0, 0);
}

const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

function colour(share) {
  const place = Math.min(Math.max(share, 0), 0.9999) * (VIRIDIS.length - 1), i = Math.floor(place);
  return [...VIRIDIS[i].map((value, k) => value + (VIRIDIS[i + 1][k] - value) * (place - i)), 255];
}

const painted = () => new Promise((resolve) => setTimeout(resolve, 20));

function setEnabled(enabled) {
  at("file").disabled = !enabled;
  at("camera").disabled = !enabled && !recording;
  at("drop").classList.toggle("busy", !enabled);
}

function openFile(file) {
  work(async (rate) => {
    await opened(video, file);
    at("stage").hidden = false;
    if (video.duration > LONGEST.file) throw new Error(`${file.name} is longer than ${LONGEST.file} s; cut it first.`);
    return new FileFrames(video, rate);
  });
}

async function useCamera() {
  if (recording) {
    recording = false;
    return;
  }
  await work(async (rate) => {
    const stream = await openCamera();
    video.srcObject = stream;
    at("stage").hidden = false;
    await video.play();
    recording = true;
    at("camera").disabled = false;
    at("camera").textContent = "Stop and read";
    tell(`Recording: speak, without a voice if you like, for up to ${LONGEST.camera} s.`);
    const end = performance.now() + 1000 * LONGEST.camera;
    try {
      const pictures = await record(video, () => recording && performance.now() < end);
      return new CameraFrames(pictures, rate);
    } finally {
      recording = false;
      at("camera").textContent = "Use the camera";
      stream.getTracks().forEach((track) => track.stop());
    }
  });
}

at("file").addEventListener("change", (event) => event.target.files[0] && openFile(event.target.files[0]));
at("camera").addEventListener("click", useCamera);
at("drop").addEventListener("dragover", (event) => event.preventDefault());
at("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) openFile(event.dataTransfer.files[0]);
});
at("audio").addEventListener("play", () => {
  if (video.srcObject) return;
  video.currentTime = at("audio").currentTime;
  video.play();
});
at("audio").addEventListener("pause", () => video.pause());
if ("serviceWorker" in navigator) navigator.serviceWorker.register("./worker.js").catch(() => {});
tell("Ready.");
