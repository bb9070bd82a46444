/* Saving, leaving, and what can no longer be saved. */

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
