"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement, all = (query, from = document) => [...from.querySelectorAll(query)];
root.className = "js";

// sorting: a configuration's rows are one tbody and move together; what has no number stays last
function sortBy(table, head) {
  const column = [...head.parentNode.children].indexOf(head);
  const first = head.dataset.better === "min" || head.classList.contains("word") ? "ascending" : "descending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first, sign = order === "ascending" ? 1 : -1;
  const key = body => body.rows[0].cells[column].dataset.v;
  const compare = (a, b) => {
    const x = key(a), y = key(b);
    if (x === "" || y === "") return (x === "") - (y === "");
    const numbers = !isNaN(x) && !isNaN(y);
    return sign * (numbers ? x - y : x.localeCompare(y, undefined, { numeric: true }));
  };
  table.append(...[...table.tBodies].sort(compare));
  for (const th of all("[aria-sort]", table)) th.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
}

// a click on a row shows its runs and commands
for (const table of all("table.runs")) {
  for (const head of all("thead tr:last-child th", table)) head.querySelector("button").onclick = () => sortBy(table, head);
  table.addEventListener("click", event => {
    const row = event.target.closest("tr.row");
    if (!row || String(getSelection())) return;
    const open = row.parentNode.classList.toggle("open");
    row.querySelector("button").setAttribute("aria-expanded", open);
  });
}
document.addEventListener("click", event => {
  const button = event.target.closest(".command button");
  if (!button) return;
  const code = button.parentNode.querySelector("code");
  const done = () => { button.textContent = "copied"; setTimeout(() => { button.textContent = "copy"; }, 1500); };
  const select = () => { getSelection().selectAllChildren(code); if (document.execCommand("copy")) done(); };
  if (navigator.clipboard) navigator.clipboard.writeText(code.textContent).then(done, select); else select();
});

// hovering a point, a line, a row or a name of the legend shows the same configuration everywhere
const tip = document.body.appendChild(Object.assign(document.createElement("div"), { id: "tip" }));
const pinned = new Set();
let hovered = null;
function light() {
  const on = new Set(pinned);
  if (hovered !== null) on.add(hovered);
  for (const mark of all("[data-c].hot, .set.busy")) mark.classList.remove("hot", "busy");
  for (const number of on) for (const mark of all(`[data-c="${number}"]`)) {
    mark.classList.add("hot");
    mark.closest(".set").classList.add("busy");
  }
  for (const item of all(".legend li")) item.classList.toggle("pinned", pinned.has(item.dataset.c));
}
function point(event) {
  const mark = event.target.closest ? event.target.closest("[data-tip], [data-c]") : null;
  const number = mark && mark.dataset.c ? mark.dataset.c : null;
  if (number !== hovered) { hovered = number; light(); }
  const words = mark && (mark.dataset.tip || (mark.ownerSVGElement && data.tips[number]));
  tip.style.visibility = words ? "visible" : "hidden";
  if (!words) return;
  tip.textContent = words;
  const right = event.clientX + 14 + tip.offsetWidth > innerWidth, low = event.clientY + 14 + tip.offsetHeight > innerHeight;
  tip.style.left = Math.max(4, right ? event.clientX - 10 - tip.offsetWidth : event.clientX + 14) + "px";
  tip.style.top = Math.max(4, low ? event.clientY - 10 - tip.offsetHeight : event.clientY + 14) + "px";
}
document.addEventListener("pointermove", point);
document.addEventListener("pointerdown", point);
for (const item of all(".legend li")) item.onclick = () => {
  if (!pinned.delete(item.dataset.c)) pinned.add(item.dataset.c);
  light();
};

// the filter keeps configurations of its data set whose words hold every word that is typed
for (const filter of all(".filter")) filter.oninput = () => {
  const set = filter.closest(".set"), words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const keeps = mark => words.every(word => data.texts[mark.dataset.c - 1].includes(word));
  for (const mark of all("[data-c]", set)) mark.classList.toggle("off", !keeps(mark));
  const rows = all(".runs tbody", set);
  set.querySelector(".count").textContent = words.length ? `${rows.filter(keeps).length} of ${rows.length}` : "";
};

// colors by a setting: numbers as a ramp, names as hues
all(".set").forEach((set, k) => {
  const choice = set.querySelector(".color");
  if (!choice) return;
  const style = document.head.appendChild(document.createElement("style"));
  choice.onchange = () => {
    const { numeric, values, of } = data.colors[k][choice.value];
    const last = Math.max(values.length - 1, 1);
    const color = k => numeric ? `color-mix(in oklab, var(--high) ${Math.round(100 * k / last)}%, var(--low))` : `var(--k${k % 8})`;
    style.textContent = Object.entries(of).map(([c, k]) => `[data-c="${c}"]{--c:${color(k)}}`).join("");
    const swatches = values.map((value, k) => {
      const span = Object.assign(document.createElement("span"), { textContent: value });
      span.style.setProperty("--c", color(k));
      return span;
    });
    set.querySelector(".swatches").replaceChildren(...swatches);
  };
  choice.onchange();
});
