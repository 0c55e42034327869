// The month by the ledger: the report that `edgerouter cost watch --report` keeps in a file, with its prices.

import { get } from "./api.js";
import { chart } from "./charts.js";
import { bars, bytes, count, h, panel, put, share, span, table } from "./dom.js";

const EVERY = 30_000;
const DAY = 86_400;
// A report that is older than this many seconds is not kept any more.
const OLD = 3_900;

const axis = (value) => value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 2 });
const amount = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 1_000 ? 3 : 0 });
const day = (at) => new Date(at).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });

export function month(root, app) {
  let currency = "";
  const money = (value) => `${(value ?? 0).toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })} ${currency}`;
  const note = h("p", { class: "detail" });
  const problem = h("p", { class: "problem", role: "status" });
  const facts = h("dl", { class: "facts" });
  const columns = [
    { title: "Item", value: (row) => row.item },
    { title: "Amount", number: true, value: (row) => row.amount, text: (value, row) => `${amount(value)} ${row.unit}` },
    { title: "Cost", number: true, value: (row) => row.cost, text: (value) => money(value) },
  ];
  const bill = table("Bill of the month", columns, (row) => row.item);
  const savings = table("Savings of the month", columns, (row) => row.item);
  const parts = bars("The bill by item", money);
  const tenants = table("Tenants", [
    { title: "Tenant", value: (row) => row.name },
    { title: "Requests", number: true, value: (row) => row.requests, text: count },
    { title: "To viewers", number: true, value: (row) => row.bytes, text: bytes },
    { title: "Hit ratio", number: true, value: (row) => row.hit_rate ?? -1, text: (_, row) => share(row.hit_rate) },
    { title: "Cost", number: true, value: (row) => row.cost, text: (value) => money(value) },
    { title: "Share", number: true, value: (row) => row.share ?? 0, text: (_, row) => share(row.share) },
  ], (row) => row.name, "The price model has no tenants.");
  const countries = table("To viewers by country", [
    { title: "Country", value: (row) => row.country || "(unknown)" },
    { title: "Region", value: (row) => row.region },
    { title: "To viewers", number: true, value: (row) => row.bytes, text: bytes },
    { title: "Cost", number: true, value: (row) => row.cost, text: (value) => money(value) },
  ], (row) => row.country, "No bytes to viewers yet.");
  const placed = panel("To viewers by country", null, countries.element);
  const days = chart({
    title: "Costs and savings by day", format: (value) => money(value), axis, label: day,
    series: [{ name: "cost", tone: "main", value: (point) => point.cost }, { name: "saved", tone: "good", value: (point) => point.saved }],
  });
  const sums = chart({
    title: "The month so far", format: (value) => money(value), axis, label: day,
    series: [{ name: "spent", tone: "main", value: (point) => point.spent }, { name: "budget", tone: "bad", value: (point) => point.budget }],
  });
  const shown = h("div", { class: "stack", hidden: true },
    h("div", { class: "halves" }, days.element, sums.element),
    h("div", { class: "halves" }, panel("Bill of the month", null, bill.element), panel("Savings of the month", null, savings.element)),
    h("div", { class: "halves" }, panel("The bill by item", null, parts.element), panel("Tenants", null, tenants.element)),
    placed);
  root.append(panel("The month by the ledger", note, problem, facts), shown);

  function show(found) {
    currency = found.currency;
    const age = Date.now() / 1_000 - found.at;
    put(note, `${found.span}, by ${found.prices}, ${span(age)} ago`);
    put(problem, age > OLD ? "The report is old: edgerouter cost watch does not run any more." : "");
    const projected = found.projected;
    const rows = [
      ["spent", money(found.total)], ["saved", money(found.saved)],
      ["whole month", projected ? `${money(projected.expected)} (${money(projected.low)} to ${money(projected.high)})` : "known after three complete hours"],
      ...(found.budget ? [["budget", `${share(found.budget.spent_share)} of ${money(found.budget.per_month)}`]] : []),
      ...(found.unplaced_bytes ? [["to viewers of unknown countries", bytes(found.unplaced_bytes)]] : []),
      ["hit ratio", share(found.hit_rate)], ["alarms that wait", count(found.alarms_waiting)],
    ];
    facts.replaceChildren(...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
    bill.update(found.bill);
    savings.update(found.savings);
    parts.update([...found.bill].sort((a, b) => b.cost - a.cost).slice(0, 8).map((line) => ({ name: line.item, value: line.cost })));
    tenants.update(found.tenants ?? []);
    placed.hidden = !found.countries;
    countries.update(found.countries ?? []);
    let spent = 0;
    const points = found.days.map((one) => {
      spent += one.cost;
      return { at: one.begin * 1_000, cost: one.cost, saved: one.saved, spent, budget: found.budget?.per_month ?? null };
    });
    // A month begins with one point: then a line leads to it from the day before.
    const drawn = points.length === 1 ? [{ ...points[0], at: points[0].at - DAY * 1_000, cost: 0, saved: 0, spent: 0 }, points[0]] : points;
    days.update(drawn);
    sums.update(drawn);
    shown.hidden = false;
  }

  async function load() {
    try {
      show(await get("/v1/costs"));
    } catch (error) {
      put(problem, error.message);
      shown.hidden = true;
    }
  }
  load();
  const timer = setInterval(() => {
    if (!document.hidden && !app.paused) load();
  }, EVERY);
  return { close: () => clearInterval(timer) };
}
