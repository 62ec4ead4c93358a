// Drives the page in Chromium: `npm test -- VIDEO...` prints what the page reads in each video, as JSON;
// with `--camera FILE.y4m` it plays that file as the camera, and `--shots FOLDER` keeps pictures of the page.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize, resolve } from "node:path";
import { chromium } from "playwright-core";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css",
  ".json": "application/json", ".wasm": "application/wasm" };
const root = new URL(".", import.meta.url).pathname;
const words = process.argv.slice(2);
const option = (name) => (words.includes(name) ? words.splice(words.indexOf(name), 2)[1] : null);
const camera = option("--camera"), shots = option("--shots");

const server = createServer(async (request, answer) => {
  const name = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname)).replace(/\/$/, "/index.html");
  try {
    const data = await readFile(join(root, name));
    answer.writeHead(200, { "content-type": TYPES[extname(name)] ?? "application/octet-stream",
      "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" });
    answer.end(data);
  } catch {
    answer.writeHead(404).end();
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const address = `http://127.0.0.1:${server.address().port}/`;

const flags = ["--no-sandbox", "--disable-gpu", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"];
if (camera) flags.push(`--use-file-for-fake-video-capture=${resolve(camera)}`);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: flags });
const context = await browser.newContext({ permissions: ["camera"], viewport: { width: 900, height: 1100 } });
const page = await context.newPage();
const foreign = [];
page.on("request", (request) => /^(blob|data):/.test(request.url()) || request.url().startsWith(address) || foreign.push(request.url()));
page.on("console", (message) => message.type() === "error" && console.error(message.text()));
page.on("pageerror", (error) => console.error(error.stack));
await page.goto(address);

const done = () => page.waitForFunction(() => /^Done|error/.test(document.getElementById("status").textContent + (document.getElementById("status").dataset.kind ?? "")), null, { timeout: 500000 });
const told = async (source) => {
  const [text, status] = await Promise.all([page.textContent("#text"), page.textContent("#status")]);
  const kept = await page.evaluate(async () => (await (await fetch(document.getElementById("download").href)).blob()).size);
  console.log(JSON.stringify({ source, text, status, bytes: kept, foreign }));
};

for (const [i, video] of words.entries()) {
  await page.setInputFiles("#file", video);
  await page.waitForFunction(() => !/^Done/.test(document.getElementById("status").textContent));
  await done();
  await told(video);
  if (shots && i === 0) {
    await page.screenshot({ path: join(shots, "desktop.png"), fullPage: true });
    await page.setViewportSize({ width: 390, height: 844 });
    await page.screenshot({ path: join(shots, "phone.png"), fullPage: true });
    await page.setViewportSize({ width: 900, height: 1100 });
  }
}
if (camera) {
  // By the keyboard alone.
  await page.focus("#camera");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("camera").textContent.startsWith("Stop"), null, { timeout: 120000 });
  await page.waitForTimeout(Number(process.env.SECONDS ?? 6) * 1000);
  await page.keyboard.press("Enter");
  await done();
  await told("camera");
}
await browser.close();
server.close();
