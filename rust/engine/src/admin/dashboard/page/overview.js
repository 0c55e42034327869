// The first view: what matters now, and the last half hour.

import { chart, sparkline } from "./charts.js";
import { bytes, compact, count, h, panel, put, rate, seconds, share, table } from "./dom.js";
import { list } from "./events.js";
import { CLASSES, REQUESTS, hitRatio, saved } from "./metrics.js";

export const title = "Overview";

const DURATION = "edgerouter_request_duration_seconds";
const per = (point, value) => value / point.seconds;

function card(name, id, tone) {
  const value = h("p", { class: "value", id });
  const detail = h("p", { class: "detail" });
  const line = sparkline(tone);
  return { element: h("section", { class: "card" }, h("h2", {}, name), value, detail, line.element), value, detail, line };
}

export const statusSeries = [
  { name: "2xx", tone: "good", value: (point) => per(point, point.classes[1]) },
  { name: "3xx", tone: "calm", value: (point) => per(point, point.classes[2]) },
  { name: "4xx", tone: "warn", value: (point) => per(point, point.classes[3]) },
  { name: "5xx", tone: "bad", value: (point) => per(point, point.classes[4]) },
];

export function open(root) {
  const cards = {
    requests: card("Requests", "kpi-requests", "main"),
    hits: card("Hit ratio", "kpi-hits", "good"),
    latency: card("Time to head, p95", "kpi-latency", "calm"),
    errors: card("Errors", "kpi-errors", "bad"),
    bytes: card("To viewers", "kpi-bytes", "main"),
    saved: card("Bytes saved", "kpi-saved", "good"),
  };
  const charts = [
    chart({ title: "Requests by status", series: statusSeries, format: (value) => rate(value), stacked: true }),
    chart({
      title: "Time to head", format: seconds,
      series: [["p50", "calm"], ["p95", "main"], ["p99", "bad"]].map(([name, tone]) => ({ name, tone, value: (point) => point[name] })),
    }),
    chart({
      title: "Hit ratio", format: share, most: 1,
      series: [{ name: "answered by the cache", tone: "good", value: (point) => (point.looked_up ? point.answered / point.looked_up : null) }],
    }),
    chart({
      title: "Bytes", format: (value) => `${bytes(value)}/s`, binary: true,
      series: [
        { name: "to viewers", tone: "main", value: (point) => per(point, point.bytes) },
        { name: "from origins", tone: "warn", value: (point) => per(point, point.origin_bytes) },
      ],
    }),
  ];
  const routes = table("Busiest routes", [
    { title: "Route", value: (row) => row.route || "(none)" },
    { title: "Requests", number: true, value: (row) => row.rate, text: rate },
    { title: "Hit ratio", number: true, value: (row) => row.hits ?? -1, text: (_, row) => share(row.hits) },
  ], (row) => row.route, "No requests in the last seconds.");
  const origins = table("Origins", [
    { title: "Origin", value: (row) => row.origin },
    { title: "State", cell: (row) => h("span", { class: `pill ${row.tone}` }, row.state), mark: (row) => row.state },
    { title: "Requests", number: true, value: (row) => row.rate, text: rate },
  ], (row) => row.origin, "The plan has no origins.");
  const latest = list("Latest events");
  root.append(
    h("div", { class: "cards" }, Object.values(cards).map((one) => one.element)),
    h("div", { class: "halves" }, charts.map((one) => one.element)),
    h("div", { class: "thirds" },
      panel("Busiest routes", h("a", { href: "#/traffic" }, "all"), routes.element),
      panel("Origins", h("a", { href: "#/traffic" }, "more"), origins.element),
      panel("Latest events", h("a", { href: "#/events" }, "all"), latest.element)),
  );

  return {
    update(app) {
      const { now, grown, history, rate: rateOf } = app;
      const all = now.total(REQUESTS);
      const errors = now.total(REQUESTS, { status: "5xx" });
      put(cards.requests.value, rate(rateOf(REQUESTS)));
      put(cards.requests.detail, `${count(all)} since the start`);
      put(cards.hits.value, share(hitRatio(grown)));
      put(cards.hits.detail, `${share(hitRatio(now))} since the start`);
      put(cards.latency.value, seconds(grown.quantile(0.95, DURATION)));
      put(cards.latency.detail, `p50 ${seconds(grown.quantile(0.5, DURATION))} · p99 ${seconds(grown.quantile(0.99, DURATION))}`);
      put(cards.errors.value, rate(rateOf(REQUESTS, { status: "5xx" })));
      put(cards.errors.detail, `${count(errors)} since the start · ${count(now.total("edgerouter_refused_total"))} refused`);
      put(cards.bytes.value, `${bytes(rateOf("edgerouter_response_bytes_total"))}/s`);
      put(cards.bytes.detail, `${bytes(now.total("edgerouter_response_bytes_total"))} since the start`);
      const spared = saved(now);
      put(cards.saved.value, share(spared.share));
      put(cards.saved.detail, `${bytes(spared.cached)} by the cache · ${bytes(spared.compressed)} by compression`);
      const line = (name, value) => cards[name].line.update(history.map(value));
      line("requests", (point) => per(point, point.classes.reduce((a, b) => a + b, 0)));
      line("hits", (point) => (point.looked_up ? point.answered / point.looked_up : 0));
      line("latency", (point) => point.p95 ?? 0);
      line("errors", (point) => per(point, point.classes[4]));
      line("bytes", (point) => per(point, point.bytes));
      line("saved", (point) => Math.max(0, per(point, point.bytes - point.origin_bytes)));
      for (const one of charts) one.update(history);
      routes.update(busiest(app).slice(0, 6));
      origins.update(originRows(app));
      latest.update(app.events.filter((event) => event.level !== "info" || event.part !== "python").slice(-6).reverse());
    },
  };
}

export function busiest({ now, grown, seconds: width }) {
  const totals = now.by("route", REQUESTS);
  const rates = grown.by("route", REQUESTS);
  const sent = now.by("route", "edgerouter_response_bytes_total");
  return [...totals.keys()].map((route) => ({
    route,
    total: totals.get(route),
    rate: (rates.get(route) ?? 0) / width,
    hits: hitRatio(now, { route }),
    errors: now.total(REQUESTS, { route, status: "5xx" }),
    bytes: sent.get(route) ?? 0,
  })).sort((a, b) => b.rate - a.rate || b.total - a.total);
}

export function originRows({ now, grown, seconds: width }) {
  const name = "edgerouter_origin_requests_total";
  const healthy = now.by("origin", "edgerouter_origin_healthy");
  const up = now.by("origin", "edgerouter_origin_up");
  const received = now.by("origin", "edgerouter_origin_response_bytes_total");
  return [...healthy.keys()].sort().map((origin) => {
    const results = now.by("result", name, { origin });
    const answered = CLASSES.reduce((sum, one) => sum + (results.get(one) ?? 0), 0);
    const failed = [...results].filter(([result]) => !CLASSES.includes(result));
    const isHealthy = healthy.get(origin) === 1;
    const isUp = up.get(origin) === 1;
    return {
      origin,
      state: !isHealthy ? "unhealthy" : isUp ? "healthy" : "last request failed",
      tone: !isHealthy ? "bad" : isUp ? "good" : "warn",
      rate: grown.total(name, { origin }) / width,
      total: answered + failed.reduce((sum, [, value]) => sum + value, 0),
      answered,
      errors: results.get("5xx") ?? 0,
      failed: failed.map(([result, value]) => `${result} ${compact(value)}`).join(", ") || "–",
      bytes: received.get(origin) ?? 0,
    };
  });
}
