// Stored responses and why they are kept, the decision about a URL, and purges.

import { get, post } from "./api.js";
import { bars, bytes, count, h, panel, put, span, svg, table } from "./dom.js";

export const title = "Cache";

const PAGE = 50;
const KINDS = [["urls", "URLs"], ["paths", "Path patterns"], ["tags", "Tags"], ["hosts", "Hosts"], ["everything", "Everything"]];
const HINTS = { urls: "https://www.example.com/product/7", paths: "/static/css/*.css", tags: "product-7", hosts: "www.example.com", everything: "" };

function meter(name) {
  const fill = svg("rect", { class: "main", x: 0, y: 0, width: 0, height: 8, rx: 4 });
  const text = h("p", { class: "detail" });
  const element = h("div", { class: "meter" }, h("h3", {}, name),
    svg("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { class: "rest", x: 0, y: 0, width: 100, height: 8, rx: 4 }), fill), text);
  return { element, update(used, capacity, entries) {
    fill.setAttribute("width", String(capacity ? Math.min(100, (100 * used) / capacity) : 0));
    element.querySelector("svg").classList.toggle("off", !capacity);
    put(text, capacity ? `${bytes(used)} of ${bytes(capacity)}, ${count(entries)} entries` : "none");
  } };
}

export function open(root, app) {
  const memory = meter("Memory");
  const disk = meter("Disk");
  const facts = h("dl", { class: "facts" });
  const rules = bars("Stored responses by the rule of their lifetime", count);
  const problem = h("p", { class: "problem", role: "alert" });
  const filters = { host: h("input", { size: "16", placeholder: "www.example.com" }), prefix: h("input", { size: "14", placeholder: "/path" }), tag: h("input", { size: "12", placeholder: "tag" }) };
  let stored = [];
  let next = null;
  const more = h("button", { type: "button", hidden: true, onclick: () => load(true) }, "More");
  const entries = table("Stored responses", [
    { title: "URL", cell: (row) => h("button", { type: "button", class: "plain url", onclick: () => explain(row) }, row.url) },
    { title: "Variant", value: (row) => variant(row) },
    { title: "State", cell: (row) => h("span", { class: `pill ${row.fresh ? "good" : "warn"}` }, row.fresh ? "fresh" : "stale"), mark: (row) => row.fresh },
    { title: "Size", number: true, value: (row) => row.bytes, text: bytes },
    { title: "Age", number: true, value: (row) => row.age, text: span },
    { title: "Time left", number: true, value: (row) => row.ttl, text: span },
    { title: "Why", value: (row) => row.why },
    { title: "Uses", number: true, value: (row) => row.uses },
    { title: "Tier", value: (row) => row.tier },
  ], (row) => row.number, "No stored response meets the filter.");

  function variant(row) {
    const values = row.variant;
    if (!values || (Array.isArray(values) && !values.length)) return "–";
    if (typeof values === "string") return values;
    if (Array.isArray(values)) return values.map((one) => (typeof one === "string" ? one : Object.values(one).join("="))).join(", ");
    return Object.entries(values).map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join(", ");
  }

  async function load(further = false) {
    put(problem, "");
    try {
      const given = Object.fromEntries(Object.entries(filters).map(([name, input]) => [name, input.value.trim()]));
      const found = await get("/v1/cache/entries", { ...given, limit: PAGE, cursor: further ? next : null });
      stored = further ? [...stored, ...found.entries] : found.entries;
      stored.forEach((entry, number) => {
        entry.number = number;
      });
      next = found.next;
      more.hidden = !next;
      entries.update([]);
      entries.update(stored);
    } catch (error) {
      put(problem, error.message);
    }
  }

  async function numbers() {
    try {
      const found = await get("/v1/cache/stats");
      memory.update(found.memory.bytes, found.memory.capacity, found.memory.entries);
      disk.update(found.disk?.bytes ?? 0, found.disk?.capacity ?? 0, found.disk?.entries ?? 0);
      const shown = [["responses", count(found.responses)], ["fresh", count(found.fresh)], ["stale", count(found.stale)], ["content", bytes(found.body_bytes)],
        ["evicted", count(found.memory.evicted)], ["fetches under way", count(found.fetches_in_flight)]];
      facts.replaceChildren(...shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
      const kinds = Array.isArray(found.by_lifetime_rule) ? found.by_lifetime_rule.map((one) => [one.rule ?? one.name, one.responses ?? one.count]) : Object.entries(found.by_lifetime_rule ?? {});
      rules.update(kinds.sort((a, b) => b[1] - a[1]).slice(0, 8).map(([name, value]) => ({ name, value })));
    } catch (error) {
      put(problem, error.message);
    }
  }

  const details = h("dialog", { class: "details", "aria-labelledby": "entry-title" });
  async function explain(row) {
    const host = row.url.includes("://") ? row.url : `${row.scheme ?? "http"}://${row.url}`;
    let steps = [];
    let decision = "";
    try {
      const found = await get("/v1/cache/entry", { url: host });
      steps = found.steps;
      decision = found.decision ?? "not cached";
    } catch (error) {
      decision = error.message;
    }
    const shown = Object.entries(row).filter(([name, value]) => name !== "number" && value !== null && value !== "");
    details.replaceChildren(
      h("h2", { id: "entry-title" }, row.url),
      h("p", {}, "A request for this URL without fields, now: ", h("b", {}, decision)),
      h("ol", { class: "steps" }, steps.map((step) => h("li", {}, h("b", {}, String(step.phase)), ` ${step.decision} `, h("span", { class: "dim" }, step.reason ?? "")))),
      h("h3", {}, "The entry"),
      h("dl", { class: "fields wide" }, shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, typeof value === "string" ? value : JSON.stringify(value))))),
      h("form", { method: "dialog" }, h("button", { class: "primary" }, "Close")));
    details.showModal();
  }

  // Purges.
  const kind = h("select", { id: "purge-kind", onchange: hint }, KINDS.map(([value, text]) => h("option", { value }, text)));
  const value = h("textarea", { id: "purge-value", rows: "3", spellcheck: "false" });
  const soft = h("input", { type: "checkbox", id: "purge-soft" });
  const result = h("div", { class: "result", role: "status" });
  const confirm = h("dialog", { class: "details", "aria-labelledby": "purge-title" });
  function hint() {
    value.disabled = kind.value === "everything";
    value.setAttribute("placeholder", HINTS[kind.value]);
  }
  function order(dry) {
    const asked = kind.value === "everything" ? { everything: true } : { [kind.value]: value.value.split("\n").map((line) => line.trim()).filter(Boolean) };
    return { ...asked, ...(soft.checked ? { soft: true } : {}), ...(dry ? { dry_run: true } : {}) };
  }
  async function tried(work) {
    result.replaceChildren();
    try {
      result.append(...(await work()));
    } catch (error) {
      result.append(h("p", { class: "problem" }, error.message));
    }
  }
  const dryRun = () => tried(async () => {
    const found = await post("/v1/purges", order(true));
    const sample = (found.sample ?? []).map((one) => h("li", {}, typeof one === "string" ? one : one.url ?? JSON.stringify(one)));
    return [h("p", {}, `Would purge ${count(found.matched.objects)} responses, ${bytes(found.matched.bytes)}. Nothing was purged.`), sample.length ? h("ul", { class: "sample" }, sample) : ""];
  });
  function purge() {
    const wanted = order(false);
    const scope = wanted.everything ? "all stored responses" : Object.values(wanted).find(Array.isArray).join(", ");
    confirm.replaceChildren(
      h("h2", { id: "purge-title" }, "Purge?"),
      h("p", {}, `${soft.checked ? "Makes stale" : "Removes"}: ${scope || "nothing"}`),
      h("form", { method: "dialog", class: "row" },
        h("button", { value: "no" }, "Cancel"),
        h("button", { value: "yes", class: "danger" }, "Purge")));
    confirm.onclose = () => {
      if (confirm.returnValue !== "yes") return;
      tried(async () => {
        const found = await post("/v1/purges", wanted);
        numbers();
        load();
        orders();
        return [h("p", {}, `Purge ${found.id} is in effect${found.warning ? `: ${found.warning}` : "."}`)];
      });
    };
    confirm.returnValue = "";
    confirm.showModal();
  }
  const list = table("Purges", [
    { title: "Purge", value: (row) => row.id },
    { title: "Status", cell: (row) => h("span", { class: `pill ${row.status === "Completed" ? "good" : "calm"}` }, row.status), mark: (row) => row.status },
    { title: "Kind", value: (row) => (row.soft ? "soft" : "hard") },
    { title: "Responses", number: true, value: (row) => row.matched?.objects ?? 0, text: count },
    { title: "Bytes", number: true, value: (row) => row.matched?.bytes ?? 0, text: bytes },
  ], (row) => row.id, "Nothing has been purged.");
  async function orders() {
    try {
      const found = await get("/v1/purges");
      list.update((found.purges ?? found).slice(0, 20));
    } catch (error) {
      put(problem, error.message);
    }
  }
  hint();
  const mayChange = app.role === "admin";
  const box = mayChange
    ? h("form", { class: "purge", onsubmit: (event) => {
      event.preventDefault();
      dryRun();
    } },
    h("label", { for: "purge-kind" }, "Scope"), kind, h("label", { for: "purge-value" }, "One a line"), value,
    h("label", { class: "check", for: "purge-soft" }, soft, " Soft: make stale, and validate at the next request"),
    h("div", { class: "row" }, h("button", { type: "submit" }, "Dry run"), h("button", { type: "button", class: "danger", onclick: purge }, "Purge …")), result)
    : h("p", { class: "empty" }, "This login may read only.");
  root.append(
    h("div", { class: "halves" },
      panel("Tiers", null, h("div", { class: "meters" }, memory.element, disk.element), facts),
      panel("Lifetimes", null, rules.element)),
    h("div", { class: "halves" }, panel("Purge", null, box), panel("Purges", null, list.element)),
    panel("Stored responses", null,
      h("form", { class: "filters", onsubmit: (event) => {
        event.preventDefault();
        load();
      } },
      h("label", {}, "Host ", filters.host), h("label", {}, "Path begins with ", filters.prefix), h("label", {}, "Tag ", filters.tag),
      h("button", { type: "submit", class: "primary" }, "Show")),
      problem, entries.element, more),
    details, confirm);
  load();
  numbers();
  orders();
  const timer = setInterval(() => {
    if (!document.hidden && !app.paused) {
      numbers();
      orders();
    }
  }, 5_000);
  return {
    close() {
      clearInterval(timer);
    },
  };
}
