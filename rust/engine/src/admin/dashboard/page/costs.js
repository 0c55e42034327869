// Costs by prices that the reader writes: usage since the start of the edge, its bill, and what cache and compression save.

import { bytes, count, h, panel, put, table } from "./dom.js";
import { month } from "./ledger.js";
import { ANSWERED, REQUESTS, saved } from "./metrics.js";

export const title = "Costs";

const KEY = "edgerouter-prices";
const MONTH = 30 * 86_400;
const GB = 1e9;
// Invented numbers, as in `edgerouter cost prices`.
const EXAMPLE = { currency: "USD", requests: 1, egress: 0.085, originRequests: 4, originBytes: 0.02, calls: 0.6, machines: 80 };
const FIELDS = [
  ["requests", "A million requests"], ["egress", "A GB to viewers"], ["originRequests", "A million requests to origins"],
  ["originBytes", "A GB from origins"], ["calls", "A million calls of functions"], ["machines", "Machines, a month"],
];

function stored() {
  try {
    return { ...EXAMPLE, ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
  } catch {
    return { ...EXAMPLE };
  }
}

export function open(root, app) {
  const ledger = month(root, app);
  let prices = stored();
  const money = (value) => `${value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: value && Math.abs(value) < 1 ? 4 : 2 })} ${prices.currency}`;
  const inputs = Object.fromEntries(FIELDS.map(([name]) => [name, h("input", { type: "number", min: "0", step: "any", id: `price-${name}`, oninput: change })]));
  const currency = h("input", { id: "price-currency", maxlength: "8", size: "5", oninput: change });
  const fill = () => {
    for (const [name] of FIELDS) inputs[name].value = String(prices[name]);
    currency.value = prices.currency;
  };
  function change() {
    for (const [name] of FIELDS) prices[name] = Math.max(0, Number(inputs[name].value) || 0);
    prices.currency = currency.value.trim() || "USD";
    keep();
  }
  function keep() {
    try {
      localStorage.setItem(KEY, JSON.stringify(prices));
    } catch {
      // Then they last as long as the page.
    }
    if (app.now) update(app);
  }
  const cards = ["Since the start", "A month at the rate of now", "Saved since the start"].map((name) => {
    const value = h("p", { class: "value" });
    const detail = h("p", { class: "detail" });
    return { element: h("section", { class: "card" }, h("h2", {}, name), value, detail), value, detail };
  });
  const columns = [
    { title: "Item", value: (row) => row.item },
    { title: "Amount", number: true, value: (row) => row.amount, text: (_, row) => row.shown },
    { title: "Cost", number: true, value: (row) => row.cost, text: (value) => money(value) },
  ];
  const bill = table("Bill since the start", columns, (row) => row.item);
  const savings = table("Savings since the start", columns, (row) => row.item);
  root.append(
    h("div", { class: "cards" }, cards.map((one) => one.element)),
    h("div", { class: "halves" }, panel("Bill since the start", null, bill.element), panel("Savings since the start", null, savings.element)),
    panel("Prices", h("p", { class: "detail" }, "Invented ones until you write your own, which this browser keeps. With steps, regions, budgets and a ledger: edgerouter cost."),
      h("form", { class: "prices", onsubmit: (event) => event.preventDefault() },
        FIELDS.map(([name, text]) => h("label", { for: `price-${name}` }, h("span", {}, text), inputs[name])),
        h("label", { for: "price-currency" }, h("span", {}, "Currency"), currency),
        h("button", { type: "button", onclick: () => {
          prices = { ...EXAMPLE };
          fill();
          keep();
        } }, "Invented prices again"))));
  fill();

  function lines(amounts) {
    return [
      { item: "Requests", amount: amounts.requests, shown: count(amounts.requests), cost: (amounts.requests / 1e6) * prices.requests },
      { item: "To viewers", amount: amounts.bytes, shown: bytes(amounts.bytes), cost: (amounts.bytes / GB) * prices.egress },
      { item: "Requests to origins", amount: amounts.fetches, shown: count(amounts.fetches), cost: (amounts.fetches / 1e6) * prices.originRequests },
      { item: "From origins", amount: amounts.fetched, shown: bytes(amounts.fetched), cost: (amounts.fetched / GB) * prices.originBytes },
      { item: "Calls of functions", amount: amounts.calls, shown: count(amounts.calls), cost: (amounts.calls / 1e6) * prices.calls },
    ];
  }
  const amounts = (samples) => ({
    requests: samples.total(REQUESTS),
    bytes: samples.total("edgerouter_response_bytes_total"),
    fetches: samples.total("edgerouter_origin_requests_total"),
    fetched: samples.total("edgerouter_origin_response_bytes_total"),
    calls: samples.total("edgerouter_function_calls_total"),
  });
  const sum = (rows) => rows.reduce((total, row) => total + row.cost, 0);

  function update({ now, grown, seconds }) {
    const rows = lines(amounts(now));
    bill.update(rows);
    const answered = now.total(REQUESTS, { cache: ANSWERED });
    const spared = saved(now);
    const savedRows = [
      { item: "Cache: requests to origins", amount: answered, shown: count(answered), cost: (answered / 1e6) * prices.originRequests },
      { item: "Cache: bytes from origins", amount: spared.cached, shown: bytes(spared.cached), cost: (spared.cached / GB) * prices.originBytes },
      { item: "Compression: bytes to viewers", amount: spared.compressed, shown: bytes(spared.compressed), cost: (spared.compressed / GB) * prices.egress },
    ];
    savings.update(savedRows);
    const monthly = (sum(lines(amounts(grown))) / seconds) * MONTH + prices.machines;
    put(cards[0].value, money(sum(rows)));
    put(cards[0].detail, "without machines");
    put(cards[1].value, money(monthly));
    put(cards[1].detail, "30 days, machines included");
    put(cards[2].value, money(sum(savedRows)));
    put(cards[2].detail, "by cache and compression");
  }
  return { update, close: ledger.close };
}
