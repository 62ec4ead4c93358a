// The page: videos that are dropped, chosen or recorded -> orders, shown until they are done.
import { speakLive } from "/page/live.js";

const $ = (id) => document.getElementById(id);
const SAVES = { "speech.mp4": "Video (mp4)", "speech.wav": "Sound (wav)", "speech.srt": "Subtitles (srt)",
  "speech.vtt": "Subtitles (vtt)", "speech.txt": "Text (txt)", "speech.json": "Words (json)",
  "speech.png": "Spectrogram (png)", "speech.zip": "All (zip)" };
const STAGES = { "finding faces": "finding faces", "reading lips": "reading lips",
  "synthesising audio": "making the sound", "reading words": "reading the words", writing: "writing the files" };
let about = null;

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

async function ask(path, options = {}) {
  const answer = await fetch(path, options);
  const told = answer.status === 204 ? {} : await answer.json().catch(() => ({ error: `status ${answer.status}` }));
  if (!answer.ok) throw Object.assign(new Error(sentence(told)), { status: answer.status });
  return told;
}

const sentence = (told) => [told.error, told.hint].filter(Boolean).join(" – ");
const megabytes = (bytes) => `${Math.round(bytes / 1e6)} MB`;
const minutes = (seconds) => (seconds >= 90 ? `${Math.round(seconds / 60)} minutes` : `${Math.max(1, Math.round(seconds))} s`);

async function begin() {
  about = await ask("/api/about");
  for (const pack of about.packs) $("pack").add(new Option(pack.name, pack.name));
  $("pack").addEventListener("change", showPack);
  showPack();
  $("bounds").textContent = `Up to ${megabytes(about.limits.upload)} and ${minutes(about.limits.seconds)} each.`;
  $("keep").textContent = `after ${minutes(about.limits.keep)}`;
  $("live").hidden = !about.live;
  for (const id of JSON.parse(sessionStorage.getItem("orders") || "[]")) show({ id, name: "…", state: "waiting" });
}

function showPack() {
  const pack = about.packs.find((each) => each.name === $("pack").value);
  $("vocoder").replaceChildren(...pack.vocoders.map((name) => new Option(name, name)));
  const knows = pack.knows ? `It knows ${pack.knows}. Any other face gets one of its voices and its words, whatever it says. ` : "";
  const reads = pack.reads ? "" : "It has no recogniser: there will be no words. ";
  $("knows").textContent = `${knows}${reads}Trained on ${pack.trained_on}; licence ${pack.licence}.`;
}

function remember() {
  const ids = [...document.querySelectorAll(".item")].map((item) => item.dataset.id).filter(Boolean);
  sessionStorage.setItem("orders", JSON.stringify(ids));
  $("none").hidden = Boolean(document.querySelector(".item"));
}

function newItem(name) {
  const item = $("item").content.cloneNode(true).querySelector(".item");
  item.querySelector("h3").textContent = name;
  item.querySelector(".delete").setAttribute("aria-label", `Delete ${name}`);
  item.querySelector(".delete").addEventListener("click", () => remove(item));
  $("list").prepend(item);
  remember();
  return item;
}

function state(item, text, share = null) {
  const line = item.querySelector(".state"), bar = item.querySelector("progress");
  if (line.textContent !== text) line.textContent = text;
  bar.hidden = share === null;
  if (share !== null) bar.value = share;
  bar.setAttribute("aria-label", text);
}

// --- sending

function send(blob, name) {
  problem("");
  const item = newItem(name);
  if (blob.size > about.limits.upload) {
    return fail(item, `${name} is larger than ${megabytes(about.limits.upload)} – send a shorter or smaller video`);
  }
  const request = new XMLHttpRequest();
  const query = new URLSearchParams({ name, pack: $("pack").value, vocoder: $("vocoder").value });
  request.open("POST", `/api/videos?${query}`);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.responseType = "json";
  request.upload.addEventListener("progress", (event) =>
    state(item, `sending, ${megabytes(event.loaded)} of ${megabytes(event.total)}`, event.loaded / event.total));
  request.addEventListener("load", () =>
    request.status === 201 ? show(request.response, item) : fail(item, sentence(request.response || { error: `status ${request.status}` })));
  request.addEventListener("error", () => fail(item, "the server cannot be reached, or refused the video"));
  item.request = request;
  state(item, "sending", 0);
  request.send(blob);
}

function fail(item, text) {
  state(item, text);
  item.querySelector(".state").classList.add("error");
  item.querySelector(".faces").hidden = true;
}

// --- following

async function show(order, item = newItem(order.name)) {
  item.dataset.id = order.id;
  remember();
  for (;;) {
    try {
      order = await ask(`/api/videos/${order.id}`);
    } catch (error) {
      if (error.status) {
        delete item.dataset.id;
        remember();
        return fail(item, error.message);
      }
      state(item, "the server cannot be reached; trying again");
      await new Promise((wake) => setTimeout(wake, 3000));
      continue;
    }
    if (!item.isConnected) return;
    item.querySelector("h3").textContent = order.name;
    item.querySelector(".delete").setAttribute("aria-label", `Delete ${order.name}`);
    if (order.state === "waiting") state(item, order.place ? `waiting, number ${order.place} in the queue` : "waiting", 0);
    if (order.state === "looking" || order.state === "speaking") {
      const left = order.left === null ? "" : `, about ${minutes(order.left)} left`;
      state(item, `${STAGES[order.stage] || "beginning"}${left}`, order.share);
    }
    if (order.state === "choosing") return choose(item, order);
    if (order.state === "failed") return fail(item, sentence(order));
    if (order.state === "done") return done(item, order);
    await new Promise((wake) => setTimeout(wake, 700));
  }
}

function choose(item, order) {
  state(item, `${order.faces.length} faces: choose one`);
  const buttons = order.faces.map((each) => {
    const button = document.createElement("button");
    button.type = "button";
    const picture = new Image();
    picture.src = file(order, `face${each.face}.jpg`);
    picture.alt = "";
    button.append(picture, `Face ${each.face}, ${each.start} to ${each.stop} s`);
    button.addEventListener("click", async () => {
      item.querySelector(".faces").hidden = true;
      try {
        show(await ask(`/api/videos/${order.id}/face`, { method: "POST", body: JSON.stringify({ face: each.face }) }), item);
        item.querySelector(".state").tabIndex = -1;
        item.querySelector(".state").focus();
      } catch (error) {
        fail(item, error.message);
      }
    });
    return button;
  });
  item.querySelector(".portraits").replaceChildren(...buttons);
  item.querySelector(".faces").hidden = false;
}

const file = (order, name) => `/api/videos/${order.id}/files/${name}`;

function done(item, order) {
  const result = order.result, player = item.querySelector(".result video");
  state(item, `done: ${result.seconds} s of speech`);
  player.src = file(order, "speech.mp4");
  player.setAttribute("aria-label", `${order.name} with the reconstructed speech`);
  if (order.files.includes("speech.vtt")) {
    const track = document.createElement("track");
    Object.assign(track, { kind: "captions", label: "Words that were read", srclang: "en", src: file(order, "speech.vtt"), default: true });
    player.append(track);
  }
  item.querySelector(".read").textContent = result.text || result.note || "The pack has no recogniser.";
  words(item.querySelector(".words"), result.words, player);
  const warning = item.querySelector(".warning");
  warning.hidden = !result.unknown;
  warning.textContent = "The pack does not know this face: it answers with one of its own voices and words. Do not trust what it says.";
  item.querySelector(".notes").replaceChildren(...[...result.notes, ...(result.text && result.note ? [result.note] : [])].map((note) => {
    const line = document.createElement("li");
    line.textContent = note;
    return line;
  }));
  item.querySelector(".figure").src = file(order, "speech.png");
  item.querySelector(".made").textContent = `Pack ${result.pack}, vocoder ${result.vocoder}, face ${result.face}. `
    + (result.knows ? `The pack knows ${result.knows}.` : "");
  item.querySelector(".saves").replaceChildren(...Object.entries(SAVES).filter(([name]) => order.files.includes(name)).map(([name, label]) => {
    const link = document.createElement("a");
    Object.assign(link, { className: "button", href: `${file(order, name)}?save`, textContent: label, download: "" });
    return link;
  }));
  item.querySelector(".result").hidden = false;
}

function words(list, found, player) {
  const buttons = found.map((word) => {
    const button = document.createElement("button"), sure = document.createElement("small");
    button.type = "button";
    sure.textContent = `${word.start.toFixed(2)} s, ${Math.round(100 * word.confidence)} %`;
    button.append(word.text, sure);
    button.classList.toggle("unsure", word.confidence < 0.5);
    button.addEventListener("click", () => {
      player.currentTime = word.start;
      player.play();
    });
    return button;
  });
  list.replaceChildren(...buttons.map((button) => {
    const line = document.createElement("li");
    line.append(button);
    return line;
  }));
  player.addEventListener("timeupdate", () => buttons.forEach((button, at) =>
    button.classList.toggle("now", found[at].start <= player.currentTime && player.currentTime < found[at].end)));
}

async function remove(item) {
  item.request?.abort();
  const id = item.dataset.id, next = item.nextElementSibling?.querySelector(".delete") || $("videos");
  item.remove();
  remember();
  next.focus();
  if (id) await ask(`/api/videos/${id}`, { method: "DELETE" }).catch((error) => problem(error.message));
}

// --- camera

async function openCamera() {
  problem("");
  if (!navigator.mediaDevices) {
    problem("The browser gives a camera only to pages of this machine or over https.");
    return null;
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480, frameRate: 25 } });
  } catch (error) {
    problem(`The camera cannot be used: ${error.message}`);
    return null;
  }
}

// Shows the camera until Stop or Cancel is pressed; resolves to whether it was Stop.
async function withCamera(stream, text, work) {
  $("camera").hidden = false;
  $("record").disabled = $("live").disabled = true;
  $("preview").srcObject = stream;
  $("camera-state").textContent = text;
  await $("preview").play();
  $("stop").focus();
  const ended = new Promise((end) => {
    $("stop").onclick = () => end(true);
    $("cancel").onclick = () => end(false);
    stream.getVideoTracks()[0].onended = () => end(true);
  });
  try {
    await work(ended);
  } catch (error) {
    problem(error.message);
  } finally {
    stream.getTracks().forEach((track) => track.stop());
    $("preview").srcObject = null;
    $("camera").hidden = $("captions").hidden = true;
    $("record").disabled = $("live").disabled = false;
  }
}

$("record").addEventListener("click", async () => {
  const stream = await openCamera();
  if (!stream) return;
  const type = ["video/webm;codecs=vp8", "video/mp4", "video/webm"].find((each) => MediaRecorder.isTypeSupported(each));
  await withCamera(stream, "Recording. Look at the camera and speak.", async (ended) => {
    const recorder = new MediaRecorder(stream, { mimeType: type, videoBitsPerSecond: 4_000_000 });
    const pieces = [];
    recorder.ondataavailable = (event) => pieces.push(event.data);
    const stopped = new Promise((stop) => (recorder.onstop = stop));
    recorder.start(1000);
    const keep = await ended;
    recorder.stop();
    await stopped;
    const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
    if (keep) send(new Blob(pieces, { type }), `recording ${time}.${type.includes("mp4") ? "mp4" : "webm"}`);
  });
  $("record").focus();
});

$("live").addEventListener("click", async () => {
  const stream = await openCamera();
  if (!stream) return;
  $("captions").hidden = false;
  $("captions").replaceChildren();
  await withCamera(stream, "Starting …", (ended) =>
    speakLive($("preview"), ended, { pack: $("pack").value, vocoder: $("vocoder").value },
      { state: (text) => ($("camera-state").textContent = text), captions: $("captions") }));
  $("live").focus();
});

// --- dropping

const drop = $("drop");
for (const kind of ["dragover", "dragenter"]) drop.addEventListener(kind, (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  for (const each of event.dataTransfer.files) send(each, each.name);
});
$("file").addEventListener("change", () => {
  for (const each of $("file").files) send(each, each.name);
  $("file").value = "";
});

begin().catch((error) => problem(`The server cannot be reached: ${error.message}`));
