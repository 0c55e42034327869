// The live tail: requests as they are answered, by a filter that the edge applies.

import { stream } from "./api.js";
import { bytes, count, h, panel, put, seconds, table } from "./dom.js";

export const title = "Live";

const KEPT = 200;
const OUTCOMES = ["hit", "stale", "miss", "coalesced", "revalidated", "stale-on-error", "disconnected", "pass", "function", "redirect", "file", "tunnel", "error"];

export function open(root, app) {
  let rows = [];
  let lost = 0;
  let number = 0;
  let close = null;
  const note = h("p", { class: "detail", role: "status" });
  const details = h("dialog", { class: "details", "aria-labelledby": "details-title" });
  const tone = (status) => (status >= 500 ? "bad" : status >= 400 ? "warn" : status >= 300 ? "calm" : "good");
  const shown = table("Requests", [
    { title: "Time", cell: (row) => h("button", { type: "button", class: "plain", onclick: () => explain(row) }, (row.time ?? "").slice(11, 23)) },
    { title: "Status", cell: (row) => h("span", { class: `pill ${tone(row.status)}` }, String(row.status)) },
    { title: "Outcome", cell: (row) => h("span", {}, row.cache ?? "", row.reason && row.reason !== row.cache ? h("span", { class: "dim" }, ` ${row.reason}`) : "") },
    { title: "Request", cell: (row) => h("span", { class: "url" }, h("b", {}, row.method ?? ""), ` ${row.host ?? ""}${row.url ?? ""}`) },
    { title: "Head", number: true, cell: (row) => seconds(row.head_seconds) },
    { title: "Size", number: true, cell: (row) => bytes(row.bytes) },
    { title: "Route", cell: (row) => row.route ?? "" },
    { title: "Variant", cell: (row) => row.variant ?? "" },
    { title: "Client", cell: (row) => row.client ?? "" },
  ], (row) => row.number, "Waiting for requests that meet the filter …");

  function explain(row) {
    const fields = Object.entries(row).filter(([name]) => name !== "number");
    details.replaceChildren(
      h("h2", { id: "details-title" }, "Request"),
      h("dl", { class: "fields wide" }, fields.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value))))),
      h("form", { method: "dialog" }, h("button", { class: "primary" }, "Close")));
    details.showModal();
  }

  const field = (name, text, input) => h("label", {}, `${text} `, input);
  const inputs = {
    status: h("input", { name: "status", placeholder: "5xx", size: "5", pattern: "[1-5](xx|[0-9]{2})" }),
    cache: h("select", { name: "cache" }, h("option", { value: "" }, "any"), OUTCOMES.map((one) => h("option", {}, one))),
    route: h("input", { name: "route", placeholder: "/api/*", size: "10" }),
    path: h("input", { name: "path", placeholder: "part of the URL", size: "14" }),
    host: h("input", { name: "host", placeholder: "www.example.com", size: "14" }),
    reason: h("input", { name: "reason", placeholder: "expired", size: "9" }),
    slow: h("input", { name: "slow", type: "number", min: "0", max: "3600", step: "any", placeholder: "0.5" }),
  };
  const query = () => {
    const given = new URLSearchParams();
    for (const [name, input] of Object.entries(inputs)) if (input.value.trim()) given.set(name, input.value.trim());
    const text = given.toString();
    return `/v1/requests${text ? `?${text}` : ""}`;
  };
  function start() {
    close?.();
    rows = [];
    lost = 0;
    draw();
    close = stream(query, {
      requests(data) {
        if (app.paused) return;
        lost += data.lost;
        rows = [...data.requests.map((row) => ({ ...row, number: (number += 1) })).reverse(), ...rows].slice(0, KEPT);
        draw();
      },
    }, (isOpen) => put(note, isOpen ? "Listening." : "Not connected: a filter was refused, or too many tails are open."));
  }
  function draw() {
    shown.update(rows);
    if (rows.length) put(note, `The last ${count(rows.length)}${lost ? `; ${count(lost)} more came too fast to be shown` : ""}.`);
  }
  const form = h("form", { class: "filters", onsubmit: (event) => {
    event.preventDefault();
    if (form.reportValidity()) start();
  } },
  field("status", "Status", inputs.status), field("cache", "Outcome", inputs.cache), field("reason", "Reason", inputs.reason),
  field("route", "Route", inputs.route), field("host", "Host", inputs.host), field("path", "URL", inputs.path), field("slow", "Slower than (s)", inputs.slow),
  h("button", { type: "submit", class: "primary" }, "Apply"),
  h("button", { type: "reset", onclick: () => setTimeout(start) }, "Clear"));
  root.append(panel("Requests as they are answered", note, form, shown.element), details);
  start();
  return {
    close() {
      close?.();
    },
  };
}
