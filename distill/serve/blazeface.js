// Near faces, and faces from frame to frame, as distill/predict/blazeface.py finds them.
// A view is RGB bytes [128, 128, 3]; its place is [left, top, pixels of the image per pixel].
import { OVERLAP, apart, crop, overlap, resize, square, toEven } from "./faces.js";

export const SIDE = 128;
const CELLS = [[8, 2], [16, 6]];  // stride in pixels, boxes per cell
const CENTERS = CELLS.flatMap(([stride, count]) => Array.from({ length: count * (SIDE / stride) ** 2 }, (_, k) => {
  const cell = Math.floor(k / count), across = SIDE / stride;
  return [(cell % across + 0.5) * stride, (Math.floor(cell / across) + 0.5) * stride];
}));

// The whole image, black beyond.
export function wide(image) {
  const scale = SIDE / Math.max(image.width, image.height), pixels = new Uint8Array(3 * SIDE * SIDE);
  const [width, height] = [image.width, image.height].map(side => Math.max(1, toEven(side * scale)));
  const picture = resize(crop(image, [0, 0, image.width, image.height]), image.width, image.height, width, height);
  for (let y = 0; y < height; y++) pixels.set(picture.subarray(3 * width * y, 3 * width * (y + 1)), 3 * SIDE * y);
  return { pixels, place: [0, 0, 1 / scale] };
}

// What lies around a box.
export function close(image, box, { around }) {
  const area = square(box, around - 1), [left, top, width, height] = area;
  return { pixels: resize(crop(image, area), width, height, SIDE, SIDE), place: [left, top, width / SIDE] };
}

// The faces in views, [{ box, score }], surest first: those that overlap become one, their mean weighted by scores.
//   regressed [B, 896, 16]: a box's center beside its cell's, width and height, and more; logits [B, 896]
export function decode(regressed, logits, views, threshold, { growth, lift }) {
  const found = [];
  views.forEach(({ place: [left, top, scale] }, view) => CENTERS.forEach(([across, down], k) => {
    const at = view * CENTERS.length + k, score = 1 / (1 + Math.exp(-Math.min(Math.max(logits[at], -100), 100)));
    if (!(score > threshold)) return;
    const [right, under, width, height] = regressed.subarray(16 * at, 16 * at + 4), side = growth * width;
    const box = [left + scale * (across + right - side / 2), top + scale * (down + under - lift * height - side / 2), scale * side, scale * side];
    found.push({ score, box });
  }));
  return blend(found.sort((a, b) => b.score - a.score));
}

function blend(left) {
  const faces = [];
  while (left.length) {
    const [first] = left, same = left.filter(one => one === first || overlap(first.box, one.box) > OVERLAP);
    const weight = same.reduce((sum, { score }) => sum + score, 0);
    const box = first.box.map((_, axis) => same.reduce((sum, one) => sum + one.score * one.box[axis], 0) / weight);
    faces.push({ score: first.score, box });
    left = left.filter(one => !same.includes(one));
  }
  return faces;
}

// A function (image, known, search) -> faces, left to right.
//   run: (pixels of views, their number) -> { boxes, logits }
//   known: the boxes of the frame before; search: look at the whole image though all of them are found again
export function nearFinder(run, { threshold, smallest, near }) {
  async function look(views) {
    const pixels = new Uint8Array(3 * SIDE * SIDE * views.length);
    views.forEach((view, k) => pixels.set(view.pixels, 3 * SIDE * SIDE * k));
    const { boxes, logits } = await run(pixels, views.length);
    return decode(boxes.data, logits.data, views, threshold, near);
  }
  async function follow(image, boxes) {
    const faces = boxes.length ? await look(boxes.map(box => close(image, box, near))) : [];
    return faces.filter(({ box }) => box[2] >= smallest).sort((a, b) => a.box[0] - b.box[0]);
  }
  return async (image, known, search) => {
    const faces = await follow(image, known);
    if (!search && faces.length >= Math.max(1, known.length)) return faces;
    return follow(image, apart([...faces, ...await look([wide(image)])]).map(({ box }) => box));
  };
}
