// What a person sees and does: a picture or the camera in, boxes and bars out. The networks are in worker.js.
import { draw, under } from "./stage.js";

const LARGEST = 4096;  // longest side of a picture as it is read, pixels
const SPEAK_EVERY = 2000, SHOW_NUMBERS_EVERY = 300;  // ms
const at = id => document.getElementById(id);
const top = face => face.probabilities.indexOf(Math.max(...face.probabilities));

// kind: picture or camera; image: the pixels that the faces were found in; looks: how many answers came
export const state = { facts: null, kind: null, image: null, faces: [], chosen: 0, looks: 0, rate: 0 };
const frame = document.createElement("canvas"), pixels = frame.getContext("2d", { willReadFrequently: true, alpha: false });
const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
let stream = null, source = null, turn = 0, busy = false, answered = 0, spoken = 0, numbered = 0;
let loaded = null;  // a promise, kept when the networks are there

// ---- the worker, as a function
const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" }), waiting = [];
worker.onmessage = ({ data: { answer, error } }) => {
  const [done, failed] = waiting.shift();
  if (error) failed(new Error(error)); else done(answer);
};
worker.onerror = event => { for (const [, failed] of waiting.splice(0)) failed(new Error(event.message || "a file is not there")); };
function ask(kind, given) {
  return new Promise((done, failed) => {
    waiting.push([done, failed]);
    worker.postMessage({ kind, given });
  });
}

// ---- looking
function middle() {  // what is taken for the face where none is looked for: the whole picture, or the camera's middle
  if (state.kind === "picture") return [0, 0, frame.width, frame.height];
  const side = Math.min(frame.width, frame.height);
  return [Math.floor((frame.width - side) / 2), Math.floor((frame.height - side) / 2), side, side];
}

async function look() {
  const mine = turn, image = pixels.getImageData(0, 0, frame.width, frame.height);
  const answer = await ask("look", { image, area: middle(), find: at("find").checked, film: state.kind === "camera" ? turn : null });
  if (mine !== turn) return;
  const { faces } = answer, now = performance.now(), rate = answered ? 1000 / (now - answered) : 0;
  Object.assign(state, { image, chosen: follow(faces), faces, looks: state.looks + 1 });
  state.rate = state.rate ? 0.9 * state.rate + 0.1 * rate : rate;
  answered = state.kind === "camera" ? now : 0;
  show();
  numbers(answer);
}

function follow(faces) {  // the face that was chosen, where it is now; else the largest
  const center = ({ area: [left, up, width, height] }) => [left + width / 2, up + height / 2], last = state.faces[state.chosen];
  const [x, y] = last ? center(last) : [0, 0];
  const cost = face => last ? Math.hypot(center(face)[0] - x, center(face)[1] - y) : -face.area[2];
  return faces.reduce((best, face, k) => cost(face) < cost(faces[best]) ? k : best, 0);
}

// ---- showing
function show() {
  const { faces, chosen, facts } = state, face = faces[chosen];
  at("answer").textContent = face ? facts.classes[top(face)] : "No face found";
  at("answer").classList.toggle("quiet", !face);
  [...at("bars").children].forEach((row, k) => {
    const share = face ? face.probabilities[k] : 0;
    row.classList.toggle("first", Boolean(face) && k === top(face));
    row.querySelector(".fill").style.transform = `translateX(${100 * share - 100}%)`;
    row.querySelector(".number").textContent = face ? `${(100 * share).toFixed(1)}%` : "–";
  });
  at("missed").hidden = Boolean(face) || state.kind === "camera";
  buttons();
  speak();
  paint();
}

function speak() {
  const { faces, chosen, facts, kind } = state, face = faces[chosen], count = faces.length === 1 ? "1 face" : `${faces.length} faces`;
  at("picture").setAttribute("aria-label", `${kind === "camera" ? "The camera's picture" : "Your picture"}, ${count}`);
  if (kind === "camera" && performance.now() - spoken < SPEAK_EVERY) return;
  const which = faces.length > 1 ? `Face ${chosen + 1} of ${faces.length}: ` : "";
  const words = face ? `${which}${facts.classes[top(face)]}, ${Math.round(100 * face.probabilities[top(face)])} percent` : "No face found";
  if (at("live").textContent !== words) at("live").textContent = words;
  spoken = performance.now();
}

function numbers({ finding, answering }) {
  if (state.kind === "camera" && performance.now() - numbered < SHOW_NUMBERS_EVERY) return;
  at("rate").textContent = state.kind === "camera" && state.rate ? state.rate.toFixed(state.rate < 10 ? 1 : 0) : "–";
  at("answering").textContent = state.faces.length ? answering.toFixed(1) : "–";
  at("finding").textContent = at("find").checked ? finding.toFixed(0) : "–";
  numbered = performance.now();
}

function buttons() {
  const group = at("faces");
  group.hidden = state.faces.length < 2;
  while (group.children.length > state.faces.length) group.lastChild.remove();
  for (let k = group.children.length; k < state.faces.length; k++) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: k + 1, onclick: () => choose(k) });
    button.setAttribute("aria-label", `Face ${k + 1}`);
    group.append(button);
  }
  [...group.children].forEach((button, k) => button.setAttribute("aria-pressed", k === state.chosen));
}

function choose(k) {
  state.chosen = k;
  spoken = 0;
  show();
}

function paint() {
  if (!source) return;
  const whole = state.kind === "picture" && !at("find").checked;  // its square would be its edge
  const names = state.faces.map(face => `${state.facts.classes[top(face)]} ${Math.round(100 * face.probabilities[top(face)])}%`);
  const found = { faces: whole ? [] : state.faces, chosen: state.chosen, names, mirrored: state.kind === "camera" };
  draw(at("picture"), source, frame.width, frame.height, found);
}

// ---- a picture
async function read(blob) {
  if (!blob) return;
  stop();
  warn("");
  const mine = ++turn, bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" }).catch(() => null);
  if (mine !== turn) return;
  if (!bitmap) return warn(`${blob.name || "This"} is no picture that this browser can read. Give a JPEG, PNG or WebP file.`);
  const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  start("picture", bitmap, bitmap.width * scale, bitmap.height * scale);
  if (scale < 1) warn(`The picture has ${bitmap.width} x ${bitmap.height} pixels; it is read at ${frame.width} x ${frame.height}.`);
  grab();
  paint();
  if (!state.facts) at("answer").textContent = "The network is loading …";
  const begun = turn;
  await loaded.then(() => begun === turn && look().catch(failed), lost);
}

function start(kind, from, width, height) {
  turn++;
  source = from;
  answered = spoken = numbered = 0;
  Object.assign(frame, { width: Math.max(1, Math.round(width)), height: Math.max(1, Math.round(height)) });
  Object.assign(state, { kind, faces: [], chosen: 0, rate: 0 });
  at("stage").classList.remove("empty");
}

function grab() {
  pixels.fillStyle = "#fff";  // under what is transparent
  pixels.fillRect(0, 0, frame.width, frame.height);
  pixels.drawImage(source, 0, 0, frame.width, frame.height);
}

// ---- the camera
const REFUSED = {
  NotAllowedError: "The camera was not allowed. Allow it for this page in the browser's address bar, and press the button again.",
  NotFoundError: "No camera was found. Plug one in and press the button again, or choose a picture.",
  NotReadableError: "The camera does not answer; another program may be using it. Close that, and press the button again.",
};

async function film() {
  if (stream) return stop();
  warn("");
  if (!navigator.mediaDevices) return warn("A browser lends its camera only to pages from https or from this machine (localhost).");
  const wanted = { facingMode: "user", width: { ideal: 640 }, height: { ideal: 480 } };
  at("camera").disabled = true;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: wanted });
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    stop();
    return warn(REFUSED[error.name] || `The camera cannot be used: ${error.message || error.name}.`);
  } finally {
    at("camera").disabled = false;
  }
  stream.getVideoTracks()[0].onended = () => { stop(); warn("The camera was taken away. Press the button to start it again."); };
  at("camera").textContent = "Stop the camera";
  start("camera", video, video.videoWidth, video.videoHeight);
  roll(turn);
}

function roll(mine) {  // draw every frame, look at one whenever the last answer is there
  if (mine !== turn) return;
  if (!busy) {
    if (frame.width !== video.videoWidth) start("camera", video, video.videoWidth, video.videoHeight);  // a phone was turned
    mine = turn;
    busy = true;
    grab();
    look().catch(failed).finally(() => { busy = false; });
  }
  paint();
  requestAnimationFrame(() => roll(mine));
}

function stop() {
  if (!stream) return;
  turn++;
  stream.getTracks().forEach(track => track.stop());
  stream = null;
  at("camera").textContent = "Use the camera";
  at("rate").textContent = "–";
}

// ---- sentences
function warn(sentence) { at("alert").textContent = sentence; at("alert").hidden = !sentence; }
function failed(error) { stop(); warn(`The network could not answer: ${error.message}. Reload the page, or give a smaller picture.`); }
function lost(error) {
  at("answer").textContent = "No face yet";
  warn(`The page could not load its networks: ${error.message}. Its files must lie together on a web server; this browser must know WebAssembly.`);
}

// ---- what the page can do, once its networks are there
function introduce(facts) {
  at("student").textContent = facts.about;
  at("limits").textContent = facts.limits;
  at("more").textContent = facts.more;
  if (facts.files.card) at("more").append(" ", Object.assign(document.createElement("a"), { href: facts.files.card, textContent: "Its model card" }), ".");
  for (const name of facts.classes) {
    const row = document.createElement("li");
    row.innerHTML = '<span class="name"></span><span class="track" aria-hidden="true"><span class="fill"></span></span><span class="number">–</span>';
    row.querySelector(".name").textContent = name;
    at("bars").append(row);
  }
  at("find").checked = Boolean(facts.files.blazeface);
  at("detector").hidden = !facts.files.blazeface;
  at("note").textContent = facts.files.blazeface
    ? "Without “Find faces” a picture is taken as one face, from edge to edge; of the camera, the square in its middle."
    : "This page has no face detector: a picture is taken as one face, from edge to edge; of the camera, the square in its middle.";
}

function listen() {
  const stage = at("stage"), over = on => event => { event.preventDefault(); stage.classList.toggle("over", on); };
  at("choose").onclick = () => at("file").click();
  at("file").onchange = event => { read(event.target.files[0]); event.target.value = ""; };
  at("camera").onclick = film;
  at("find").onchange = () => { if (state.kind === "picture") { turn++; state.faces = []; look().catch(failed); } };
  at("picture").onclick = event => {
    const k = under(at("picture"), event, frame.width, state.faces, state.kind === "camera");
    if (k >= 0) choose(k);
  };
  at("invitation").onclick = () => at("file").click();
  addEventListener("dragover", over(true));
  addEventListener("dragleave", over(false));
  addEventListener("drop", event => { over(false)(event); read(event.dataTransfer.files[0]); });
  addEventListener("paste", event => read(event.clipboardData.files[0]));
  addEventListener("resize", paint);
  at("choose").disabled = false;
}

async function open() {
  const facts = await (await fetch("facts.json")).json();
  introduce(facts);
  await ask("open", facts);
  state.facts = facts;
  at("camera").disabled = false;
  at("find").disabled = !facts.files.blazeface;
}
loaded = open();
listen();
export const ready = loaded.catch(lost);
