// The timeline: events of log, health, failover, plans and purges, with their causes.

import { clock, count, h, panel, put } from "./dom.js";

export const title = "Events";

// The exception stands at the end of a traceback.
const last = (text) => text.trimEnd().split("\n").at(-1).trim() || "Traceback";

function entry(event) {
  const fields = Object.entries(event.fields).filter(([name]) => name !== "exception");
  const times = event.count > 1 ? h("span", { class: "times" }, `× ${count(event.count)}`) : null;
  const [first, ...rest] = event.message.split("\n");
  const more = [...rest, ...(event.fields.exception ? event.fields.exception.split("\n") : [])].join("\n");
  return h("li", { class: `event ${event.level}` },
    h("time", { datetime: new Date(event.at).toISOString() }, clock(event.at)),
    h("span", { class: `level ${event.level}` }, event.level),
    h("div", { class: "event-text" },
      h("p", {}, h("span", { class: "message" }, first), times),
      fields.length ? h("dl", { class: "fields" }, fields.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))) : null,
      more.trim() ? h("details", {}, h("summary", {}, last(more)), h("pre", { tabindex: "0" }, more)) : null));
}

// A list of events that keeps its elements as long as the events stay.
export function list(label) {
  const element = h("ol", { class: "events", "aria-label": label });
  const known = new Map();
  function update(events) {
    const kept = new Set();
    let before = null;
    for (const event of events) {
      kept.add(event.id);
      let line = known.get(event.id);
      if (!line || line.count !== event.count) {
        line?.element.remove();
        line = { element: entry(event), count: event.count };
        known.set(event.id, line);
      }
      const next = before ? before.nextSibling : element.firstChild;
      if (line.element !== next) element.insertBefore(line.element, next);
      before = line.element;
    }
    for (const [id, line] of known) {
      if (!kept.has(id)) {
        line.element.remove();
        known.delete(id);
      }
    }
    let none = element.querySelector(".empty");
    if (!events.length && !none) element.append(h("li", { class: "empty" }, "Nothing has happened."));
    else if (events.length && none) none.remove();
  }
  update([]);
  return { element, update };
}

export function open(root, app) {
  const shown = list("Events");
  const level = h("select", { id: "level", onchange: () => draw(app) },
    [["", "all"], ["warn", "warnings and errors"], ["error", "errors"]].map(([value, text]) => h("option", { value }, text)));
  const words = h("input", { type: "search", id: "words", placeholder: "origin, group, text …", oninput: () => draw(app) });
  const note = h("p", { class: "detail" });
  function draw({ events }) {
    const wanted = words.value.trim().toLowerCase();
    const levels = { "": ["error", "warn", "info"], warn: ["error", "warn"], error: ["error"] }[level.value];
    const fits = (event) => levels.includes(event.level)
      && (!wanted || `${event.message} ${Object.values(event.fields).join(" ")}`.toLowerCase().includes(wanted));
    const found = events.filter(fits).reverse();
    shown.update(found);
    put(note, `${count(found.length)} of the last ${count(events.length)} events`);
  }
  root.append(panel("Events", note,
    h("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
      h("label", {}, "Level ", level), h("label", {}, "Find ", words)),
    shown.element));
  draw(app);
  return { update: draw };
}
