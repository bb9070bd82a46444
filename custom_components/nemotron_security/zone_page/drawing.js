/* Drawing and moving: by steps, by the pointer, by the keyboard. */

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
