// Pixels and boxes, as python -m distill.predict treats them: what goes into the networks, and what comes out of the face detector.
// An image is { data, width, height }, data RGBA bytes row by row, as a canvas gives them; an area or a box is
// [left, top, width, height] in its pixels; a picture is RGB bytes [height, width, 3].

const STRIDE = 4, GRID = 32;
export const OVERLAP = 0.3;  // of two boxes, above which they are one face
const ONE = 2 ** 22;  // weights of pixels are whole parts of it, as in Pillow
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const nearest = value => Math.floor(value + 0.5);
export const toEven = value => value % 1 === 0.5 ? 2 * Math.round(value / 2) : Math.round(value);

// The square around a face: the longer side of its box times 1 + margin, about the same center, on whole pixels.
export function square([x, y, width, height], margin) {
  const side = (1 + margin) * Math.max(width, height), left = x + (width - side) / 2, up = y + (height - side) / 2;
  const [x0, y0] = [nearest(left), nearest(up)];
  return [x0, y0, Math.max(1, nearest(left + side) - x0), Math.max(1, nearest(up + side) - y0)];
}

// What an area holds, as a picture; outside of the image its edge goes on.
export function crop(image, [left, up, width, height]) {
  const out = new Uint8Array(3 * width * height);
  for (let y = 0, to = 0; y < height; y++) {
    const row = image.width * clamp(up + y, 0, image.height - 1);
    for (let x = 0; x < width; x++, to += 3) {
      const from = 4 * (row + clamp(left + x, 0, image.width - 1));
      out[to] = image.data[from];
      out[to + 1] = image.data[from + 1];
      out[to + 2] = image.data[from + 2];
    }
  }
  return out;
}

// For each of `to` places: the first of the `from` pixels that it is mixed of, and their weights (a triangle, wider the more it shrinks).
function mixture(from, to) {
  const scale = from / to, reach = Math.max(scale, 1);
  return Array.from({ length: to }, (_, k) => {
    const center = (k + 0.5) * scale, first = Math.max(0, Math.trunc(center - reach + 0.5));
    const last = Math.min(from, Math.trunc(center + reach + 0.5));
    const weights = Array.from({ length: last - first }, (_, j) => Math.max(0, 1 - Math.abs((j + first - center + 0.5) / reach)));
    const sum = weights.reduce((a, b) => a + b, 0);
    return [first, Int32Array.from(weights, weight => Math.round(weight / sum * ONE))];
  });
}

// Mix pixels along one axis: lines that lie `apart` bytes apart, their pixels `step` bytes apart, before and after.
function along(bytes, out, lines, from, to, [apart, step], [apartOut, stepOut]) {
  mixture(from, to).forEach(([first, weights], k) => {
    for (let line = 0; line < lines; line++) {
      let at = line * apart + first * step, red = ONE / 2, green = red, blue = red;  // 256 ONE = 2 ** 30 is never reached
      for (let j = 0; j < weights.length; j++, at += step) {
        const weight = weights[j];
        red = red + bytes[at] * weight | 0;
        green = green + bytes[at + 1] * weight | 0;
        blue = blue + bytes[at + 2] * weight | 0;
      }
      const place = line * apartOut + k * stepOut;
      out[place] = red >> 22;
      out[place + 1] = green >> 22;
      out[place + 2] = blue >> 22;
    }
  });
  return out;
}

// A picture at another size, byte by byte what Pillow's resize(size, BILINEAR) makes of it. Each axis rounds to bytes, so that their
// order shows: Pillow 13 mixes columns first where they shrink far more than rows; earlier ones never do.
export function resize(picture, width, height, toWidth, toHeight) {
  const rows = (bytes, high) => toWidth === width ? bytes
    : along(bytes, new Uint8Array(3 * toWidth * high), high, width, toWidth, [3 * width, 3], [3 * toWidth, 3]);
  const columns = (bytes, wide) => toHeight === height ? bytes
    : along(bytes, new Uint8Array(3 * wide * toHeight), wide, height, toHeight, [3, 3 * wide], [3, 3 * wide]);
  const shrinks = height - toHeight, columnsFirst = shrinks > 0 && shrinks > 2 * (width - toWidth);
  return columnsFirst ? rows(columns(picture, width), toHeight) : columns(rows(picture, height), toWidth);
}

// The image as the detector takes it: not longer than `longest`, black beyond to whole steps of its grid, planes [3, height, width].
export function fitted(image, longest) {
  const scale = Math.min(1, longest / Math.max(image.width, image.height));
  const [w, h] = [image.width, image.height].map(side => scale < 1 ? Math.max(1, toEven(side * scale)) : side);
  const [width, height] = [w, h].map(side => GRID * Math.ceil(side / GRID)), planes = new Float32Array(3 * width * height);
  const picture = resize(crop(image, [0, 0, image.width, image.height]), image.width, image.height, w, h);
  for (let y = 0, from = 0; y < h; y++) {
    for (let x = 0; x < w; x++) for (let c = 0; c < 3; c++) planes[(c * height + y) * width + x] = picture[from++];
  }
  return { planes, width, height, scale };
}

// The boxes that CenterFace's maps tell of, [{ box, score }], left to right; of those that lie over each other the surest.
//   heat [h, w]: chance of a face's center; sizes, offsets [2, h, w]: log of height and width, and the center's shift down and right
export function decode(heat, sizes, offsets, { width, scale }, threshold, smallest) {
  const columns = width / STRIDE, area = heat.length, found = [];
  heat.forEach((score, k) => {
    if (!(score > threshold)) return;
    const tall = STRIDE * Math.exp(sizes[k]), wide = STRIDE * Math.exp(sizes[area + k]);
    const down = STRIDE * (Math.floor(k / columns) + offsets[k] + 0.5), right = STRIDE * (k % columns + offsets[area + k] + 0.5);
    const box = [right - wide / 2, down - tall / 2, wide, tall].map(number => number / scale);
    if (Math.min(box[2], box[3]) >= smallest) found.push({ score, box });
  });
  return apart(found.sort((a, b) => b.score - a.score)).sort((a, b) => a.box[0] - b.box[0]);
}

// Those that overlap none before them.
export function apart(found) {
  const kept = [];
  for (const one of found) if (kept.every(other => overlap(one.box, other.box) < OVERLAP)) kept.push(one);
  return kept;
}

export function overlap(a, b) {
  const shared = axis => Math.max(0, Math.min(a[axis] + a[axis + 2], b[axis] + b[axis + 2]) - Math.max(a[axis], b[axis]));
  const both = shared(0) * shared(1);
  return both / (a[2] * a[3] + b[2] * b[3] - both);
}
