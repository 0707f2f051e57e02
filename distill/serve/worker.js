// The networks, beside the page so that it never stands still: an image in, faces and their probabilities out.
import * as ort from "./ort/ort.wasm.min.mjs";
import { nearFinder } from "./blazeface.js";
import { crop, decode, fitted, resize, square } from "./faces.js";

ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
// more than one needs headers that not every web server sends; the page itself draws on a core of its own
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, Math.ceil(navigator.hardwareConcurrency / 2)) : 1;

let facts, student, detector = null, near = null;
let tracked = { film: null, number: 0, boxes: [] };  // number: of the frame; boxes: of the one before

async function load(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name} is not there (${answer.status})`);
  const options = { executionProviders: ["wasm"], logSeverityLevel: 3 };
  return ort.InferenceSession.create(new Uint8Array(await answer.arrayBuffer()), options);
}

async function open(told) {
  facts = told;
  const image = { data: new Uint8ClampedArray(4 * 64 * 64), width: 64, height: 64 }, box = [0, 0, 64, 64];
  student = await load(facts.files.student);
  await probabilities(image, box);  // the first pass of each is slow
  if (facts.files.detector) detector = await load(facts.files.detector);
  if (detector) await far(image);
  if (!facts.files.blazeface) return true;
  const blazeface = await load(facts.files.blazeface);
  near = nearFinder((pixels, count) => blazeface.run({ image: new ort.Tensor("uint8", pixels, [count, 128, 128, 3]) }), facts);
  await near(image, [box], true);
  return true;
}

// [K] of what an area holds, brought to the size of the pictures that the student learned from.
async function probabilities(image, area) {
  const [height, width] = facts.picture;
  const picture = resize(crop(image, area), area[2], area[3], width, height);
  const answer = await student.run({ image: new ort.Tensor("uint8", picture, [1, height, width, 3]) });
  return [...answer.probabilities.data];
}

async function far(image) {
  const fit = fitted(image, facts.longest), given = new ort.Tensor("float32", fit.planes, [1, 3, fit.height, fit.width]);
  const answer = await detector.run({ [detector.inputNames[0]]: given });
  const maps = detector.outputNames.map(name => answer[name].data);
  return decode(...maps, fit, facts.threshold, facts.smallest);
}

// film: a number that a camera's frames share, or null for a picture
async function found(image, film) {
  const small = Math.max(image.width, image.height) <= facts.small;
  if (film === null) return detector && !small ? far(image) : near(image, [], true);
  if (tracked.film !== film) tracked = { film, number: 0, boxes: [] };
  const faces = await near(image, tracked.boxes, tracked.number % facts.near.search === 0);
  tracked = { film, number: tracked.number + 1, boxes: faces.map(({ box }) => box) };
  return faces;
}

async function look({ image, area, find, film }) {
  const start = performance.now(), seen = find ? await found(image, film) : null, middle = performance.now();
  const faces = seen ? seen.map(face => ({ ...face, area: square(face.box, facts.margin) })) : [{ area }];
  for (const face of faces) face.probabilities = await probabilities(image, face.area);
  return { faces, finding: middle - start, answering: (performance.now() - middle) / Math.max(1, faces.length) };
}

let last = Promise.resolve();  // one after the other, so that answers come in the order of questions
self.onmessage = ({ data: { kind, given } }) => {
  last = last.then(async () => self.postMessage({ answer: await (kind === "open" ? open : look)(given) }))
    .catch(error => self.postMessage({ error: String(error.message || error) }));
};
