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
let past = [];
let dirty = false;
let moving = null;             // what the pointer drags
let pressed = { corner: -1, at: 0 };
let touched = false;           // whether the last pointer was a finger

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
  past.push(before);
  if (past.length > 100) past.shift();
  dirty = true;
  byId("undo").disabled = false;
  say("");
}

function undo() {
  if (!past.length) return;
  const before = JSON.parse(past.pop());
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
