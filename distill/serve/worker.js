// The networks, beside the page so that it never stands still: an image in, faces and their probabilities out.
import * as ort from "./ort/ort.wasm.min.mjs";
import { crop, decode, fitted, resize, square } from "./faces.js";

ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
ort.env.wasm.numThreads = 1;  // more need headers that not every web server sends

let facts, student, detector = null;

async function load(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name} is not there (${answer.status})`);
  const options = { executionProviders: ["wasm"], logSeverityLevel: 3 };
  return ort.InferenceSession.create(new Uint8Array(await answer.arrayBuffer()), options);
}

async function open(told) {
  facts = told;
  student = await load(facts.files.student);
  if (facts.files.detector) detector = await load(facts.files.detector);
  const image = { data: new Uint8ClampedArray(4 * 64 * 64), width: 64, height: 64 };
  await look({ image, area: [0, 0, 64, 64], longest: detector ? 64 : 0 });  // the first pass of each is slow
  await probabilities(image, [0, 0, 64, 64]);
  return true;
}

// [K] of what an area holds, brought to the size of the pictures that the student learned from.
async function probabilities(image, area) {
  const [height, width] = facts.picture;
  const picture = resize(crop(image, area), area[2], area[3], width, height);
  const answer = await student.run({ image: new ort.Tensor("uint8", picture, [1, height, width, 3]) });
  return [...answer.probabilities.data];
}

async function found(image, longest) {
  const fit = fitted(image, longest), given = new ort.Tensor("float32", fit.planes, [1, 3, fit.height, fit.width]);
  const answer = await detector.run({ [detector.inputNames[0]]: given });
  const maps = detector.outputNames.map(name => answer[name].data);
  return decode(...maps, fit, facts.threshold, facts.smallest)
    .map(face => ({ ...face, area: square(face.box, facts.margin) }));
}

async function look({ image, area, longest }) {
  const start = performance.now(), faces = longest ? await found(image, longest) : [{ area }], middle = performance.now();
  for (const face of faces) face.probabilities = await probabilities(image, face.area);
  return { faces, finding: middle - start, answering: (performance.now() - middle) / Math.max(1, faces.length) };
}

let last = Promise.resolve();  // one after the other, so that answers come in the order of questions
self.onmessage = ({ data: { kind, given } }) => {
  last = last.then(async () => self.postMessage({ answer: await (kind === "open" ? open : look)(given) }))
    .catch(error => self.postMessage({ error: String(error.message || error) }));
};
