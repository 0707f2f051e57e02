// The picture that is shown, its faces in squares; the camera's is mirrored, as a mirror would.

const HIGHEST = 0.62;  // of the window

function fit(canvas, width, height) {
  const scale = Math.min(canvas.parentNode.clientWidth / width, HIGHEST * Math.max(innerHeight, 400) / height);
  const [wide, high] = [width * scale, height * scale].map(side => Math.max(1, Math.round(side)));
  Object.assign(canvas.style, { width: `${wide}px`, height: `${high}px` });
  const dots = Math.min(devicePixelRatio || 1, 2);
  if (canvas.width !== Math.round(wide * dots) || canvas.height !== Math.round(high * dots)) {
    Object.assign(canvas, { width: Math.round(wide * dots), height: Math.round(high * dots) });
  }
  return { dots, wide, high, scale };
}

// Draw a source of width x height pixels and what was found in it.
//   faces: [{ area: [left, top, width, height] }]; chosen: the number of one; names: what is written on them
export function draw(canvas, source, width, height, { faces, chosen, names, mirrored }) {
  const { dots, wide, high, scale } = fit(canvas, width, height), pen = canvas.getContext("2d");
  pen.setTransform(dots, 0, 0, dots, 0, 0);
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, wide, high);
  if (mirrored) pen.setTransform(-dots, 0, 0, dots, dots * wide, 0);
  pen.drawImage(source, 0, 0, wide, high);
  pen.setTransform(dots, 0, 0, dots, 0, 0);
  const order = faces.map((_, k) => k).sort((a, b) => (a === chosen) - (b === chosen));  // the chosen one on top
  for (const k of order) mark(pen, place(faces[k].area, width, scale, mirrored), names[k], k === chosen, wide);
}

function place([left, top, width, height], whole, scale, mirrored) {
  return [mirrored ? whole - left - width : left, top, width, height].map(number => number * scale);
}

function mark(pen, [x, y, width, height], name, chosen, wide) {
  const color = chosen ? "#39a7f0" : "#ffffff";
  for (const [line, ink] of [[chosen ? 5 : 4, "rgba(0, 0, 0, .55)"], [chosen ? 3 : 1.5, color]]) {
    Object.assign(pen, { lineWidth: line, strokeStyle: ink });
    pen.beginPath();
    pen.roundRect(x, y, width, height, 6);
    pen.stroke();
  }
  pen.font = `${chosen ? 600 : 400} 14px system-ui, "Segoe UI", Roboto, Arial, sans-serif`;
  const long = pen.measureText(name).width + 14, left = Math.max(2, Math.min(x, wide - long - 2)), top = y >= 30 ? y - 28 : y + 5;
  pen.fillStyle = chosen ? "#0b5f99" : "rgba(20, 22, 25, .78)";
  pen.beginPath();
  pen.roundRect(left, Math.max(2, top), long, 24, 5);
  pen.fill();
  pen.fillStyle = "#fff";
  pen.textBaseline = "middle";
  pen.fillText(name, left + 7, Math.max(2, top) + 12.5);
}

// The number of the face under a click, or -1; the smallest where several lie over each other.
export function under(canvas, event, width, faces, mirrored) {
  const scale = canvas.clientWidth / width;
  const hit = faces.map((face, k) => [k, place(face.area, width, scale, mirrored)])
    .filter(([, [x, y, w, h]]) => event.offsetX >= x && event.offsetX <= x + w && event.offsetY >= y && event.offsetY <= y + h);
  return hit.length ? hit.reduce((a, b) => b[1][2] < a[1][2] ? b : a)[0] : -1;
}
