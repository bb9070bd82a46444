"use strict";
/* Draw zones, entry lines and masks in a camera's picture. Points are shares of its width and height. */

const data = JSON.parse(document.getElementById("data").textContent);
const text = data.texts;
const SVG = "http://www.w3.org/2000/svg";
const KEYS = { zone: "zones", line: "lines", mask: "masks" };
const WAYS = { to_right: [1], to_left: [-1], both: [1, -1] };
const address = location.pathname;

const byId = (id) => document.getElementById(id);
const canvas = byId("canvas");
const stage = byId("stage");
const picture = byId("picture");

let shapes = data.shapes;      // {kind, id, name, points, direction?, wrong?}
let gone = [];                 // the ids of what was there and is deleted
let chosen = null;             // the shape whose corners are shown
let drawing = null;            // the shape that is being drawn: its corners so far are its points
let aim = null;                // where the next corner would go
let history = [];
let dirty = false;
let moving = null;             // what the pointer drags
let pressed = { corner: -1, at: 0 };
let touched = false;           // whether the last pointer was a finger

/* --- small things --- */

const most = (kind) => (kind === "line" ? 2 : data.most_points);
const fewest = (kind) => (kind === "line" ? 2 : 3);
/* Nobody hits the picture's very border. */
const snap = (share) => (share < 0.01 ? 0 : share > 0.99 ? 1 : round(share));
const round = (share) => Math.round(Math.min(1, Math.max(0, share)) * 1e4) / 1e4;

function say(words, wrong = false) {
  byId("status").textContent = words;
  byId("status").classList.toggle("wrong", wrong);
}

function fill(words, values) {
  return words.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

const present = () => JSON.stringify({ shapes, gone, chosen: shapes.indexOf(chosen) });

function remember(before = present()) {
  history.push(before);
  if (history.length > 100) history.shift();
  dirty = true;
  byId("undo").disabled = false;
  say("");
}

function undo() {
  if (!history.length) return;
  const before = JSON.parse(history.pop());
  shapes = before.shapes;
  gone = before.gone;
  chosen = shapes[before.chosen] ?? null;
  show();
}

function freeName(kind) {
  const taken = new Set(shapes.map((shape) => shape.name.trim().toLowerCase()));
  for (let number = 1; ; number += 1) {
    const name = fill(text[`new_${kind}`], { number });
    if (!taken.has(name.toLowerCase())) return name;
  }
}

/* --- the picture --- */

function size() {
  return { width: stage.clientWidth, height: stage.clientHeight };
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [snap((event.clientX - box.left) / box.width), snap((event.clientY - box.top) / box.height)];
}

function make(name, attributes, parent = canvas) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

function paint() {
  const { width, height } = size();
  const focus = document.activeElement?.dataset?.corner;
  const at = ([x, y]) => [x * width, y * height];
  canvas.replaceChildren();
  canvas.setAttribute("viewBox", `0 0 ${width} ${height}`);
  canvas.classList.toggle("drawing", drawing !== null);
  for (let step = 1; step < 10; step += 1) {
    const [x, y] = at([step / 10, step / 10]);
    make("path", { class: "grid", d: `M${x} 0V${height}M0 ${y}H${width}` });
  }
  for (const kind of ["mask", "zone", "line"]) {
    for (const shape of shapes) if (shape.kind === kind) paintShape(shape, at);
  }
  for (const shape of shapes) paintName(shape, at, width, height);
  if (drawing) paintDrawing(at, width, height);
  else if (chosen) paintCorners(chosen, at);
  if (focus !== undefined) canvas.querySelector(`[data-corner="${focus}"]`)?.focus();
}

function paintShape(shape, at) {
  const list = shape.points.map(at);
  const points = list.map((point) => point.join(",")).join(" ");
  const outline = shape.kind === "line" ? "polyline" : "polygon";
  const index = shapes.indexOf(shape);
  const mark = shape === chosen ? " chosen" : "";
  make(outline, { class: `shape ${shape.kind}${mark}`, points, "data-shape": index });
  if (shape.kind !== "line") return;
  make("circle", { class: "start", cx: list[0][0], cy: list[0][1], r: 6 });
  paintArrows(list, shape.direction);
  make("polyline", { class: "wide", points, "data-shape": index });
}

function paintArrows([[x1, y1], [x2, y2]], direction) {
  const length = Math.hypot(x2 - x1, y2 - y1) || 1;
  // With y downward, this is to the right of somebody who looks from the start to the end.
  const right = [(y1 - y2) / length, (x2 - x1) / length];
  const arrow = Math.min(34, size().width / 16);
  for (const way of WAYS[direction]) {
    const [dx, dy] = [right[0] * way * arrow, right[1] * way * arrow];
    const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
    const tip = [x + dx, y + dy];
    let path = `M${x} ${y}L${tip[0]} ${tip[1]}`;
    for (const side of [1, -1]) {
      path += `M${tip[0]} ${tip[1]}L${tip[0] - dx / 3 + (side * dy) / 3} ${tip[1] - dy / 3 - (side * dx) / 3}`;
    }
    make("path", { class: "arrow", d: path });
  }
}

function paintName(shape, at, width, height) {
  const { points } = shape;
  const middle = [0, 1].map((axis) =>
    shape.kind === "line"
      ? points[0][axis] * 0.75 + points[1][axis] * 0.25 // the arrow is in the middle
      : points.reduce((sum, point) => sum + point[axis], 0) / points.length,
  );
  const [x, y] = at(middle);
  const room = Math.min(width / 2, shape.name.length * 4.5);
  const name = make("text", {
    class: "name",
    "font-size": 15,
    x: Math.min(Math.max(x, room), width - room),
    y: Math.min(Math.max(y, 12), height - 12),
  });
  name.textContent = shape.name;
}

function paintCorners(shape, at) {
  const count = shape.points.length;
  const ring = shape.kind === "line" ? [] : shape.points;
  ring.forEach((point, index) => {
    if (count >= most(shape.kind)) return;
    const next = shape.points[(index + 1) % count];
    const [x, y] = at([(point[0] + next[0]) / 2, (point[1] + next[1]) / 2]);
    make("circle", { class: "between", cx: x, cy: y, r: 6, "data-between": index });
  });
  shape.points.forEach((point, index) => {
    const [x, y] = at(point);
    make("circle", { class: "reach", cx: x, cy: y, r: 18, "data-corner-area": index });
    make("circle", {
      class: "corner",
      cx: x,
      cy: y,
      r: 8,
      tabindex: 0,
      role: "img",
      "aria-label": fill(text.corner, { number: index + 1, name: shape.name }),
      "data-corner": index,
    });
  });
}

function paintDrawing(at, width, height) {
  const points = drawing.points.map(at);
  const all = aim ? [...points, at(aim)] : points;
  if (all.length > 1) {
    const outline = drawing.kind === "line" ? "polyline" : "polygon";
    make(outline, { class: `shape ${drawing.kind}`, points: all.map((point) => point.join(",")).join(" ") });
  }
  points.forEach(([x, y], index) => {
    const first = index === 0 && points.length >= 3 ? " first" : "";
    make("circle", { class: `corner${first}`, cx: x, cy: y, r: first ? 10 : 6 });
  });
  if (aim) {
    const [x, y] = at(aim);
    make("path", { class: "aim", d: `M${x} 0V${height}M0 ${y}H${width}` });
  }
}

/* --- the list beside it --- */

function list() {
  const items = byId("list");
  items.replaceChildren();
  byId("nothing").hidden = shapes.length > 0;
  shapes.forEach((shape, index) => items.append(item(shape, index)));
}

function item(shape, index) {
  const entry = document.createElement("li");
  entry.classList.toggle("chosen", shape === chosen);
  entry.dataset.item = index;
  const row = document.createElement("div");
  row.className = "row";
  const swatch = document.createElement("i");
  swatch.className = `swatch ${shape.kind}`;
  const name = document.createElement("input");
  name.value = shape.name;
  name.maxLength = data.longest_name;
  name.setAttribute("aria-label", text[`name_${shape.kind}`]);
  if (shape.wrong) name.setAttribute("aria-invalid", "true");
  let before = "";
  name.addEventListener("focus", () => {
    choose(shape, false);
    before = present();
  });
  name.addEventListener("change", () => {
    remember(before);
    before = present();
  });
  name.addEventListener("input", () => {
    shape.name = name.value;
    dirty = true;
    paint();
  });
  const remove = document.createElement("button");
  remove.type = "button";
  remove.textContent = text.delete;
  remove.setAttribute("aria-label", fill(text.delete_name, { name: shape.name }));
  remove.addEventListener("click", () => drop(shape));
  row.append(swatch, name, remove);
  entry.append(row);
  if (shape.kind === "line") entry.append(directions(shape));
  if (shape.wrong) {
    const wrong = document.createElement("p");
    wrong.className = "wrong";
    wrong.textContent = shape.wrong;
    entry.append(wrong);
  }
  entry.addEventListener("pointerdown", () => choose(shape, false));
  return entry;
}

function directions(shape) {
  const select = document.createElement("select");
  select.setAttribute("aria-label", text.direction);
  for (const way of Object.keys(WAYS)) select.append(new Option(text[`direction_${way}`], way));
  select.value = shape.direction;
  select.addEventListener("change", () => {
    remember();
    shape.direction = select.value;
    paint();
  });
  return select;
}

function choose(shape, write = true) {
  if (drawing || chosen === shape) return;
  chosen = shape;
  for (const entry of byId("list").children) entry.classList.toggle("chosen", shapes[entry.dataset.item] === shape);
  if (write) byId("list").querySelector(".chosen")?.scrollIntoView({ block: "nearest" });
  hint();
  paint();
}

function drop(shape) {
  remember();
  shapes = shapes.filter((other) => other !== shape);
  if (shape.id) gone = [...gone, shape.id];
  if (chosen === shape) chosen = null;
  show();
}

function hint() {
  let words = text.hint;
  if (drawing) words = text[drawing.kind === "line" ? "hint_line" : "hint_polygon"];
  else if (chosen) words = text[chosen.kind === "line" ? "hint_chosen_line" : "hint_chosen"];
  byId("hint").textContent = words;
}

function show() {
  byId("tools").hidden = drawing !== null;
  byId("drawing").hidden = drawing === null;
  byId("finish").hidden = drawing?.kind === "line";
  byId("finish").disabled = !drawing || drawing.points.length < fewest(drawing.kind);
  byId("back").disabled = !drawing || !drawing.points.length;
  byId("undo").disabled = !history.length || drawing !== null;
  byId("save").disabled = drawing !== null;
  hint();
  list();
  paint();
}

/* --- drawing --- */

function begin(kind) {
  if (shapes.filter((shape) => shape.kind === kind).length >= data.most_shapes) {
    say(text.too_many, true);
    return;
  }
  chosen = null;
  drawing = { kind, id: "", name: freeName(kind), points: [] };
  if (kind === "line") drawing.direction = "both";
  aim = null;
  say("");
  show();
  canvas.focus();
}

function add(point) {
  const last = drawing.points.at(-1);
  if (last && last[0] === point[0] && last[1] === point[1]) return;
  drawing.points.push(point);
  if (drawing.points.length >= most(drawing.kind)) finish();
  else show();
}

function finish() {
  if (!drawing || drawing.points.length < fewest(drawing.kind)) return;
  remember();
  const shape = drawing;
  drawing = null;
  aim = null;
  shapes = [...shapes, shape];
  chosen = shape;
  show();
  if (touched) return; // a keyboard on the screen would hide what was drawn
  const name = byId("list").querySelector(".chosen input");
  name?.focus();
  name?.select();
}

function takeBack() {
  drawing?.points.pop();
  show();
}

function giveUp() {
  drawing = null;
  aim = null;
  show();
}

function closes(point) {
  if (drawing.kind === "line" || drawing.points.length < 3) return false;
  const { width, height } = size();
  const [first] = drawing.points;
  return Math.hypot((first[0] - point[0]) * width, (first[1] - point[1]) * height) < 16;
}

/* --- the pointer --- */

document.addEventListener("pointerdown", (event) => {
  touched = event.pointerType === "touch";
}, true);

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  const point = place(event);
  if (drawing) {
    event.preventDefault();
    canvas.focus();
    aim = null;
    if (closes(point)) finish();
    else add(point);
    return;
  }
  const { corner, cornerArea, between, shape } = event.target.dataset;
  if (corner !== undefined || cornerArea !== undefined) {
    const index = Number(corner ?? cornerArea);
    // No dblclick: what is grabbed takes its clicks.
    const twice = pressed.corner === index && event.timeStamp - pressed.at < 400;
    pressed = twice ? { corner: -1, at: 0 } : { corner: index, at: event.timeStamp };
    if (twice) removeCorner(index);
    else grab(event, { corner: index });
  } else if (between !== undefined) {
    remember();
    chosen.points.splice(Number(between) + 1, 0, point);
    grab(event, { corner: Number(between) + 1, remembered: true });
    show();
  } else if (shape !== undefined) {
    if (shapes[shape] === chosen) grab(event, { from: point });
    else choose(shapes[shape]);
  } else {
    choose(null);
  }
});

function grab(event, what) {
  event.preventDefault();
  moving = { ...what, x: event.clientX, y: event.clientY };
  canvas.setPointerCapture(event.pointerId);
}

canvas.addEventListener("pointermove", (event) => {
  if (drawing) {
    if (event.pointerType === "touch") return;
    aim = place(event);
    paint();
    return;
  }
  if (!moving || !chosen) return;
  // A finger trembles.
  if (!moving.started && Math.hypot(event.clientX - moving.x, event.clientY - moving.y) < 3) return;
  moving.started = true;
  if (!moving.remembered) {
    remember();
    moving.remembered = true;
  }
  pressed = { corner: -1, at: 0 };
  const point = place(event);
  if (moving.corner !== undefined) {
    chosen.points[moving.corner] = point;
  } else {
    shift(chosen, point[0] - moving.from[0], point[1] - moving.from[1]);
    moving.from = point;
  }
  paint();
});

for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, () => {
    moving = null;
  });
}

canvas.addEventListener("pointerleave", () => {
  if (!drawing || !aim) return;
  aim = null;
  paint();
});

/* Move all of a shape, as far as all of it stays in the picture. */
function shift(shape, dx, dy) {
  const bound = (axis, by) => {
    const values = shape.points.map((point) => point[axis]);
    return Math.min(Math.max(by, -Math.min(...values)), 1 - Math.max(...values));
  };
  const [x, y] = [bound(0, dx), bound(1, dy)];
  shape.points = shape.points.map((point) => [round(point[0] + x), round(point[1] + y)]);
}

function removeCorner(index) {
  if (!chosen || chosen.points.length <= fewest(chosen.kind)) return;
  remember();
  chosen.points.splice(index, 1);
  show();
}

/* --- the keyboard --- */

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

canvas.addEventListener("keydown", (event) => {
  const step = STEPS[event.key];
  const far = event.shiftKey ? 0.05 : 0.01;
  const corner = event.target.dataset.corner;
  if (step && drawing) {
    const [x, y] = aim ?? drawing.points.at(-1) ?? [0.5, 0.5];
    aim = [round(x + step[0] * far), round(y + step[1] * far)];
    paint();
  } else if (step && corner !== undefined && chosen) {
    remember();
    const [x, y] = chosen.points[corner];
    chosen.points[corner] = [round(x + step[0] * far), round(y + step[1] * far)];
    paint();
  } else if (step && chosen) {
    remember();
    shift(chosen, step[0] * far, step[1] * far);
    paint();
  } else if (drawing && (event.key === "Enter" || event.key === " ")) {
    if (aim && closes(aim)) finish();
    else if (aim) add(aim);
    else finish();
  } else if (drawing && event.key === "Backspace") {
    takeBack();
  } else if (corner !== undefined && (event.key === "Delete" || event.key === "Backspace")) {
    removeCorner(Number(corner));
  } else {
    return;
  }
  event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && drawing) giveUp();
  const typing = event.target.matches("input, select");
  if (!typing && !drawing && (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
    event.preventDefault();
    undo();
  }
});

/* --- saving --- */

async function send(body) {
  const answer = await fetch(address, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return { status: answer.status, body: answer.status === 200 || answer.status === 422 ? await answer.json() : null };
}

async function save() {
  const drawn = { zones: [], lines: [], masks: [], gone };
  const sent = { zones: [], lines: [], masks: [] };
  for (const shape of shapes) {
    delete shape.wrong;
    const part = { id: shape.id, name: shape.name, points: shape.points };
    if (shape.kind === "line") part.direction = shape.direction;
    drawn[KEYS[shape.kind]].push(part);
    sent[KEYS[shape.kind]].push(shape);
  }
  byId("save").disabled = true;
  say(text.saving);
  try {
    const { status, body } = await send(drawn);
    if (status === 200) {
      end(text.saved);
      return;
    }
    if (status === 422) {
      for (const problem of body.problems) {
        const shape = sent[problem.kind][problem.index];
        if (shape) shape.wrong = problem.text;
      }
      chosen = shapes.find((shape) => shape.wrong) ?? chosen;
      show();
      say(body.problems.find((problem) => problem.index === null)?.text ?? text.not_saved, true);
      byId("list").querySelector("[aria-invalid]")?.focus();
      return;
    }
    if (status === 403) say(keepDraft() ? `${text.expired} ${text.kept}` : text.expired, true);
    else say(text.failed, true);
  } catch {
    say(text.failed, true);
  } finally {
    byId("save").disabled = false;
  }
}

/* What can no longer be saved here waits in the browser for the next window of this camera. */
const DRAFT = `nemotron_security zones ${data.camera_id}`;

function keepDraft() {
  try {
    localStorage.setItem(DRAFT, JSON.stringify({ shapes, gone }));
    dirty = false;
    return true;
  } catch {
    return false; // without storage it is lost, but only when this window is closed
  }
}

function draft() {
  try {
    return JSON.parse(localStorage.getItem(DRAFT));
  } catch {
    return null;
  }
}

function forgetDraft() {
  byId("draft").hidden = true;
  try {
    localStorage.removeItem(DRAFT);
  } catch {
    // There was no storage to begin with.
  }
}

function restore() {
  remember();
  ({ shapes, gone } = draft());
  chosen = null;
  forgetDraft();
  show();
}

async function cancel() {
  if (dirty && !confirm(text.lose)) return;
  dirty = false;
  try {
    await send({ cancel: true });
  } catch {
    // The window closes all the same.
  }
  end(text.cancelled);
}

function end(words) {
  dirty = false;
  byId("editor").hidden = true;
  byId("end").hidden = false;
  byId("end-text").textContent = words;
  byId("end-text").focus();
  window.close(); // does nothing in a window that Home Assistant did not open
}

window.addEventListener("beforeunload", (event) => {
  if (dirty) event.preventDefault();
});

/* --- begin --- */

function load() {
  picture.src = `${address}/picture?${Date.now()}`;
}

picture.addEventListener("load", () => {
  stage.classList.remove("empty");
  // A doorbell's tall picture is to be seen as a whole.
  stage.style.maxWidth = `calc(75vh * ${picture.naturalWidth / picture.naturalHeight})`;
  byId("no-picture").hidden = true;
  paint();
});
picture.addEventListener("error", () => {
  stage.classList.add("empty");
  byId("no-picture").hidden = false;
  paint();
});

for (const element of document.querySelectorAll("[data-text]")) element.textContent = text[element.dataset.text];
for (const element of document.querySelectorAll("[data-label]")) {
  element.setAttribute("aria-label", text[element.dataset.label]);
}
for (const button of document.querySelectorAll("[data-add]")) {
  button.addEventListener("click", () => begin(button.dataset.add));
}
byId("finish").addEventListener("click", finish);
byId("back").addEventListener("click", takeBack);
byId("give-up").addEventListener("click", giveUp);
byId("undo").addEventListener("click", undo);
byId("renew").addEventListener("click", load);
byId("save").addEventListener("click", save);
byId("cancel").addEventListener("click", cancel);
byId("restore").addEventListener("click", restore);
byId("forget").addEventListener("click", forgetDraft);
byId("draft").hidden = draft() === null;
new ResizeObserver(paint).observe(stage);
stage.classList.add("empty");
load();
show();
