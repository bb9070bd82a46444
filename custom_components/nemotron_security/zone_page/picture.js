/* What is drawn over the picture. */

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
