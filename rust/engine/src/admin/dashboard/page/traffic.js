// Routes, origins, statuses, outcomes and their reasons; health over time.

import { chart } from "./charts.js";
import { bars, bytes, clock, count, h, panel, put, rate, share, svg, table } from "./dom.js";
import { ANSWERED, CLASSES, REQUESTS } from "./metrics.js";
import { busiest, originRows, statusSeries } from "./overview.js";

export const title = "Traffic";

const TONES = { "2xx": "good", "3xx": "calm", "4xx": "warn", "5xx": "bad" };
const SPAN = 30 * 60_000;
const UNPLACED = "(unknown)";

export function open(root) {
  const statuses = bars("Requests by status", count);
  const outcomes = bars("Requests by outcome", count);
  const reasons = bars("Reasons for responses that the cache did not give", count);
  const refused = bars("Refused requests", count);
  const requests = chart({ title: "Requests by status", series: statusSeries, format: (value) => rate(value), stacked: true });
  const fetches = chart({
    title: "Requests to origins", format: (value) => rate(value),
    series: [
      { name: "requests", tone: "main", value: (point) => point.origin_requests / point.seconds },
      { name: "failover", tone: "bad", value: (point) => point.failovers / point.seconds },
    ],
  });
  const routes = table("Routes", [
    { title: "Route", value: (row) => row.route || "(none)" },
    { title: "Now", number: true, value: (row) => row.rate, text: rate },
    { title: "Requests", number: true, value: (row) => row.total, text: count },
    { title: "Hit ratio", number: true, value: (row) => row.hits ?? -1, text: (_, row) => share(row.hits) },
    { title: "5xx", number: true, value: (row) => row.errors, text: count },
    { title: "To viewers", number: true, value: (row) => row.bytes, text: bytes },
  ], (row) => row.route, "No request has been answered yet.");
  const origins = table("Origins", [
    { title: "Origin", value: (row) => row.origin },
    { title: "State", cell: (row) => h("span", { class: `pill ${row.tone}` }, row.state), mark: (row) => row.state },
    { title: "Now", number: true, value: (row) => row.rate, text: rate },
    { title: "Requests", number: true, value: (row) => row.total, text: count },
    { title: "Answered", number: true, value: (row) => row.answered, text: count },
    { title: "5xx", number: true, value: (row) => row.errors, text: count },
    { title: "Failed", value: (row) => row.failed },
    { title: "Received", number: true, value: (row) => row.bytes, text: bytes },
  ], (row) => row.origin, "The plan has no origins.");
  const groups = table("Failover", [
    { title: "Group", value: (row) => row.group },
    { title: "Continued elsewhere", number: true, value: (row) => row.total, text: count },
  ], (row) => row.group, "No request had to continue with another origin.");
  const countries = bars("Bytes to viewers by country", bytes);
  const placed = h("div", { hidden: true }, panel("To viewers by country", null, countries.element));
  const strips = h("div", { class: "strips" });
  root.append(
    h("div", { class: "halves" }, requests.element, fetches.element),
    panel("Routes", null, routes.element),
    panel("Origins", null, origins.element),
    h("div", { class: "halves" },
      panel("Health in the last 30 minutes", null, strips),
      panel("Failover", null, groups.element)),
    h("div", { class: "quarters" },
      panel("Status", null, statuses.element), panel("Outcome", null, outcomes.element),
      panel("Why not from the cache", null, reasons.element), panel("Refused", null, refused.element)),
    placed,
  );

  return {
    update(app) {
      const { now, history } = app;
      requests.update(history);
      fetches.update(history);
      routes.update(busiest(app));
      origins.update(originRows(app));
      groups.update([...now.by("group", "edgerouter_failover_total")].map(([group, total]) => ({ group, total })));
      const ranked = (map, tone) => [...map].filter(([, value]) => value > 0).sort((a, b) => b[1] - a[1]).slice(0, 10)
        .map(([name, value]) => ({ name, value, tone: tone?.(name) ?? "main" }));
      const classes = now.by("status", REQUESTS);
      statuses.update(CLASSES.filter((one) => classes.get(one)).map((one) => ({ name: one, value: classes.get(one), tone: TONES[one] ?? "calm" })));
      outcomes.update(ranked(now.by("cache", REQUESTS), (name) => (ANSWERED.includes(name) ? "good" : name === "error" ? "bad" : "main")));
      reasons.update(ranked(now.by("reason", "edgerouter_cache_forwarded_total")));
      refused.update(ranked(now.by("reason", "edgerouter_refused_total"), () => "warn"));
      // Only an edge with count_countries has these.
      const sent = [...now.by("country", "edgerouter_country_response_bytes_total")].map(([code, sum]) => [code || UNPLACED, sum]);
      placed.hidden = sent.length === 0;
      countries.update(ranked(sent, (name) => (name === UNPLACED ? "warn" : "main")));
      health(strips, app);
    },
  };
}

// A strip for each origin: from the events of its health.
function health(root, { events, now }) {
  const end = Date.now();
  const begin = end - SPAN;
  const names = [...now.by("origin", "edgerouter_origin_healthy").keys()].sort();
  const mark = JSON.stringify([names, Math.floor(end / 10_000), events.at(-1)?.number]);
  if (root.dataset.mark === mark) return;
  root.dataset.mark = mark;
  root.replaceChildren(...names.map((origin) => {
    const changes = events.filter((event) => event.fields.origin === origin && /^origin is (un)?healthy/.test(event.message));
    const parts = [];
    let healthy = changes.length ? changes[0].message !== "origin is unhealthy" ? false : true : now.total("edgerouter_origin_healthy", { origin }) === 1;
    let from = begin;
    let why = "";
    const add = (to) => {
      if (to > from) parts.push({ from, to, healthy, why });
      from = Math.max(from, to);
    };
    for (const change of changes) {
      add(Math.min(Math.max(change.at, begin), end));
      healthy = change.message !== "origin is unhealthy";
      why = change.fields.why ?? "";
    }
    add(end);
    const rects = parts.map((part) => {
      const rect = svg("rect", { class: part.healthy ? "good" : "bad", x: (100 * (part.from - begin)) / SPAN, y: 0, width: (100 * (part.to - part.from)) / SPAN, height: 10 });
      return rect;
    });
    const bad = parts.filter((part) => !part.healthy);
    const text = bad.length ? bad.map((part) => `unhealthy ${clock(part.from)} to ${clock(part.to)}${part.why ? `: ${part.why}` : ""}`).join("; ") : "healthy throughout";
    const words = h("p", { class: "detail" });
    put(words, text);
    return h("div", { class: "strip" }, h("p", { class: "strip-name" }, origin),
      svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", class: "strip-line", role: "img", "aria-label": `${origin}: ${text}` }, ...rects), words);
  }));
  if (!names.length) root.append(h("p", { class: "empty" }, "The plan has no origins."));
}
