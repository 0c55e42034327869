// Hooks and functions: calls, failures, and the last tracebacks.

import { count, h, panel, rate, table } from "./dom.js";
import { list } from "./events.js";

export const title = "Functions";

const CALLS = "edgerouter_function_calls_total";

export function open(root) {
  const calls = table("Hooks and functions", [
    { title: "Callable", value: (row) => row.name },
    { title: "Phase", value: (row) => row.phase },
    { title: "Now", number: true, value: (row) => row.rate, text: rate },
    { title: "Calls", number: true, value: (row) => row.total, text: count },
    { title: "Failed", number: true, value: (row) => row.failed, text: count },
    { title: "How", value: (row) => row.how },
  ], (row) => `${row.phase} ${row.name}`, "No hook or function has been called.");
  const state = h("dl", { class: "facts" });
  const errors = list("Errors of functions");
  root.append(panel("Hooks and functions", null, state, calls.element), panel("Errors and tracebacks", null, errors.element));
  return {
    update({ now, grown, seconds, events }) {
      const rows = new Map();
      for (const { labels, value } of now.values(CALLS)) {
        const key = `${labels.phase} ${labels.callable}`;
        const row = rows.get(key) ?? { name: labels.callable, phase: labels.phase, total: 0, failed: 0, results: [] };
        row.total += value;
        if (labels.result !== "ok" && value) {
          row.failed += value;
          row.results.push(`${labels.result} ${count(value)}`);
        }
        rows.set(key, row);
      }
      calls.update([...rows.values()].map((row) => ({
        ...row,
        rate: grown.total(CALLS, { callable: row.name, phase: row.phase }) / seconds,
        how: row.results.join(", ") || "–",
      })).sort((a, b) => b.total - a.total));
      const facts = [
        ["waiting", "edgerouter_function_calls_waiting"], ["running", "edgerouter_function_calls_running"],
        ["streams open", "edgerouter_function_streams_open"], ["threads abandoned", "edgerouter_function_threads_abandoned"],
        ["background tasks", "edgerouter_background_tasks_running"],
      ];
      state.replaceChildren(...facts.map(([name, metric]) => h("div", {}, h("dt", {}, name), h("dd", {}, count(now.total(metric))))));
      errors.update(events.filter((event) => event.part === "functions" && event.level !== "info").slice(-50).reverse());
    },
  };
}
