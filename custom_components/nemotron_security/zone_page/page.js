/* The list beside the picture, and how it all begins. */

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
  byId("undo").disabled = !past.length || drawing !== null;
  byId("save").disabled = drawing !== null;
  hint();
  list();
  paint();
}

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
