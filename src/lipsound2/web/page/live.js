// Speaks live: frames of the camera go to the server as they come, sound and words come back.

const WIDTH = 320; // pixels of the frames that are sent
const PERIOD = 40; // milliseconds between frames
const UNDERWAY = 12; // frames that may be on their way to the server
const SLACK = 0.3; // seconds of sound that may wait to be heard; beyond that quiet is left out
const MOST = 1; // and beyond that anything
const QUIET = 600; // of 32768

// Sends what `video` shows until `ended` resolves. `choice` names pack and vocoder, `view` shows what happens.
export async function speakLive(video, ended, choice, view) {
  const sound = new AudioContext({ sampleRate: 16000 });
  await sound.audioWorklet.addModule("/page/worklet.js");
  const player = new AudioWorkletNode(sound, "player");
  player.connect(sound.destination);
  await sound.resume();
  const query = new URLSearchParams(choice);
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/live?${query}`);
  socket.binaryType = "arraybuffer";
  const way = { sent: 0, taken: 0 };
  let timer = null, skipped = 0, refused = "", heard = 0, late = 0;
  const closed = new Promise((close) => (socket.onclose = close));
  socket.onopen = () => view.state("Starting …");
  socket.onmessage = ({ data }) => {
    if (data instanceof ArrayBuffer) {
      // How late it is: since its first frame was seen, and until it will be heard.
      const waits = Math.max(0, heard - sound.currentTime);
      const samples = new Int16Array(data.slice(8));
      if (waits > MOST || (waits > SLACK && samples.every((each) => Math.abs(each) < QUIET))) return;
      late = performance.now() / 1000 - new DataView(data).getFloat64(0) + waits + (sound.outputLatency || 0);
      heard = sound.currentTime + waits + (data.byteLength - 8) / 2 / sound.sampleRate;
      player.port.postMessage(samples);
      document.body.dataset.late = late.toFixed(2);
      return;
    }
    const told = JSON.parse(data);
    if (told.error) refused = [told.error, told.hint].filter(Boolean).join(" – ");
    if (told.taken) way.taken = told.taken;
    if (told.ready) timer = sendFrames(video, socket, way, () => skipped++);
    if (told.words) showWords(view.captions, told.words);
    if (told.state) view.state(told.state + (late ? ` The sound is ${late.toFixed(1)} s behind your lips.` : "") + (skipped + told.dropped ? ` ${skipped + told.dropped} frames were dropped.` : ""));
  };
  await Promise.race([ended, closed]);
  clearInterval(timer);
  socket.close();
  await sound.close();
  if (refused) throw new Error(refused);
}

function sendFrames(video, socket, way, skip) {
  const canvas = document.createElement("canvas");
  canvas.width = WIDTH;
  canvas.height = Math.round((WIDTH * video.videoHeight) / video.videoWidth);
  const pen = canvas.getContext("2d");
  let coding = false;
  return setInterval(() => {
    const time = performance.now();
    if (coding || way.sent - way.taken > UNDERWAY || socket.readyState !== WebSocket.OPEN) return skip();
    coding = true;
    pen.drawImage(video, 0, 0, canvas.width, canvas.height);
    canvas.toBlob(async (blob) => {
      coding = false;
      const message = new Uint8Array(8 + blob.size);
      new DataView(message.buffer).setFloat64(0, time / 1000);
      message.set(new Uint8Array(await blob.arrayBuffer()), 8);
      if (socket.readyState !== WebSocket.OPEN) return;
      socket.send(message);
      way.sent++;
    }, "image/jpeg", 0.85);
  }, PERIOD);
}

function showWords(place, { settled, open }) {
  const later = document.createElement("span");
  later.className = "later";
  later.textContent = open;
  place.replaceChildren(`${settled} `, later);
}
