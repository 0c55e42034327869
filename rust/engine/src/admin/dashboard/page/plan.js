// The plan in service, and its difference to the one before it.

import { get } from "./api.js";
import { h, panel, put, span, table } from "./dom.js";

export const title = "Plan";

// Lines around a change that are shown, and lines that are compared at most.
const AROUND = 3;
const MOST = 4_000;

// The shortest way from one list of lines to another, by a table of common lengths.
export function difference(before, after) {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start += 1;
  let [a, b] = [before.length, after.length];
  while (a > start && b > start && before[a - 1] === after[b - 1]) {
    a -= 1;
    b -= 1;
  }
  const [old, fresh] = [before.slice(start, a), after.slice(start, b)];
  const lines = before.slice(0, start).map((text) => ({ sign: " ", text }));
  if (old.length * fresh.length > MOST * 1_000) {
    lines.push(...old.map((text) => ({ sign: "-", text })), ...fresh.map((text) => ({ sign: "+", text })));
  } else {
    const width = fresh.length + 1;
    const common = new Uint32Array((old.length + 1) * width);
    for (let i = old.length - 1; i >= 0; i -= 1) {
      for (let j = fresh.length - 1; j >= 0; j -= 1) {
        common[i * width + j] = old[i] === fresh[j] ? common[(i + 1) * width + j + 1] + 1 : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
      }
    }
    let [i, j] = [0, 0];
    while (i < old.length || j < fresh.length) {
      if (i < old.length && j < fresh.length && old[i] === fresh[j]) {
        lines.push({ sign: " ", text: old[i] });
        i += 1;
        j += 1;
      } else if (j >= fresh.length || (i < old.length && common[(i + 1) * width + j] >= common[i * width + j + 1])) {
        lines.push({ sign: "-", text: old[i] });
        i += 1;
      } else {
        lines.push({ sign: "+", text: fresh[j] });
        j += 1;
      }
    }
  }
  lines.push(...before.slice(a).map((text) => ({ sign: " ", text })));
  return lines;
}

function shownDifference(lines) {
  const near = new Set();
  lines.forEach((line, index) => {
    if (line.sign !== " ") for (let at = index - AROUND; at <= index + AROUND; at += 1) near.add(at);
  });
  const parts = [];
  let skipped = false;
  lines.forEach((line, index) => {
    if (!near.has(index)) {
      if (!skipped) parts.push(h("span", { class: "gap" }, "⋯\n"));
      skipped = true;
      return;
    }
    skipped = false;
    const tone = { "+": "added", "-": "removed", " ": "same" }[line.sign];
    const name = { "+": "ins", "-": "del", " ": "span" }[line.sign];
    parts.push(h(name, { class: tone }, `${line.sign} ${line.text}\n`));
  });
  return parts;
}

const text = (document) => (document ? JSON.stringify(document.plan, null, 2).split("\n") : []);

export function open(root) {
  const note = h("p", { class: "detail" });
  const routes = table("Routes in the order in which they are matched", [
    { title: "Route", value: (row) => row.label },
    { title: "Methods", value: (row) => row.methods.join(", ") || "any" },
    { title: "To", value: (row) => row.target },
    { title: "Viewer", value: (row) => row.viewer },
    { title: "Token", value: (row) => row.auth ?? "–" },
    { title: "Experiments", value: (row) => row.experiments.join("; ") || "–" },
    { title: "Cache", value: (row) => row.cache },
    { title: "Python", value: (row) => Object.values(row.hooks).flat().join(", ") || "–" },
  ], (row) => String(row.index), "The plan has no routes.");
  const diff = h("pre", { class: "code", tabindex: "0", role: "region", "aria-label": "Difference to the plan before" });
  const whole = h("pre", { class: "code", tabindex: "0", role: "region", "aria-label": "The plan as data" });
  root.append(
    panel("Routes", note, routes.element),
    panel("Difference to the plan before", null, diff),
    panel("The plan as data", h("p", { class: "detail" }, "Secrets and values of request headers are left out."), whole));
  let version = null;
  async function load() {
    const found = await get("/v1/plan");
    routes.update(found.routes);
    const since = found.now ? `, in service for ${span(Date.now() / 1_000 - found.now.since)}` : "";
    put(note, `${found.name}: version ${found.version}${since}`);
    put(whole, text(found.now).join("\n") || "This edge was started without data of its plan.");
    if (found.before) {
      const lines = difference(text(found.before), text(found.now));
      const changed = lines.some((line) => line.sign !== " ");
      diff.replaceChildren(...(changed ? shownDifference(lines) : [`Version ${found.before.version} had the same data: only code may have changed.`]));
    } else {
      put(diff, "This is the first plan since the start.");
    }
  }
  return {
    update({ now }) {
      const current = now.total("edgerouter_plan_version");
      if (current === version) return;
      version = current;
      load().catch((error) => put(note, error.message));
    },
  };
}
