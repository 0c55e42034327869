// Experiments: visitors and conversions by variant, as the edge has counted them, with a test that may be looked at any time.

import { get } from "./api.js";
import { chart } from "./charts.js";
import { bars, clock, count, h, panel, put, share, span, svg, table } from "./dom.js";
import { difference, pValue, splitValue, wilson } from "./statistics.js";

export const title = "Experiments";

const TONES = ["main", "good", "warn", "bad", "calm"];
const LEVEL = 0.05;
const SPLIT_LEVEL = 0.001;
const EFFECT = 0.02;
const EVERY = 5_000;
const DAY = 86_400_000;
// Variants with a line of their own.
const LINES = 5;

const rate = (visitors, reached) => (visitors ? reached / visitors : null);
const points = (value) => `${value > 0 ? "+" : ""}${(100 * value).toFixed(2)} %`;
const small = (value) => (value === null ? "" : value < 0.0001 ? "< 0.0001" : value.toFixed(4));
const when = (at) => new Date(at).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const tone = (index) => TONES[index % TONES.length];

// One row for each variant, for one goal.
function rowsOf(found, goal) {
  const variants = found.variants ?? [];
  const control = variants.find((one) => one.variant === "control") ?? variants[0];
  const reached = (one) => one.conversions[goal] ?? 0;
  // The smallest value of all looks is a p-value as well.
  const smallest = (index) => Math.min(...[...(found.history ?? []), null].map((point) => {
    const [own, other] = [variants.indexOf(control), index].map((at) => (point
      ? { visitors: point.visitors[at] ?? 0, conversions: point.conversions[at]?.[goal] ?? 0 }
      : { visitors: variants[at].visitors, conversions: reached(variants[at]) }));
    return pValue(own, other, EFFECT);
  }));
  return variants.map((one, index) => {
    const arm = { visitors: one.visitors, conversions: reached(one) };
    const base = { visitors: control.visitors, conversions: reached(control) };
    const isControl = one === control;
    const mean = one.visitors ? one.value / one.visitors : 0;
    return {
      variant: one.variant, visitors: one.visitors, conversions: arm.conversions, isControl, tone: tone(index),
      rate: rate(one.visitors, arm.conversions), interval: wilson(arm),
      difference: isControl ? null : (rate(arm.visitors, arm.conversions) ?? 0) - (rate(base.visitors, base.conversions) ?? 0),
      anytime: isControl ? null : difference(base, arm, EFFECT, LEVEL / Math.max(1, variants.length - 1)),
      p: isControl ? null : smallest(index),
      value: one.squares ? mean : null,
    };
  });
}

// The rates with their intervals, on one scale.
function intervals(rows) {
  const most = Math.max(0.000_1, ...rows.map((row) => row.interval[1]));
  const place = (value) => (100 * value) / most;
  return rows.map((row) => {
    const [low, high] = row.interval;
    const text = `${row.variant}: ${share(row.rate)}, 95 % interval ${share(low)} to ${share(high)}`;
    return h("div", { class: "strip" }, h("p", { class: "strip-name" }, row.variant),
      svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", class: "strip-line", role: "img", "aria-label": text },
        svg("rect", { class: "rest", x: 0, y: 0, width: 100, height: 10 }),
        svg("rect", { class: `interval ${row.tone}`, x: place(low), y: 2, width: Math.max(0.4, place(high) - place(low)), height: 6 }),
        svg("rect", { class: `estimate ${row.tone}`, x: Math.max(0, place(row.rate ?? 0) - 0.3), y: 0, width: 0.6, height: 10 })),
      h("p", { class: "detail" }, `${share(row.rate)} (${share(low)} to ${share(high)})`));
  });
}

function section(name) {
  let goal = null;
  let found = null;
  const select = h("select", { id: `goal-${name}`, onchange: () => {
    goal = select.value;
    draw();
  } });
  const note = h("p", { class: "detail" });
  const verdict = h("p", { role: "status" });
  const warning = h("p", { class: "problem", role: "alert" });
  const strips = h("div", { class: "strips" });
  const split = bars(`Visitors of ${name}`, count);
  const lines = h("div");
  const variants = table(`Variants of ${name}`, [
    { title: "Variant", value: (row) => row.variant },
    { title: "Visitors", number: true, value: (row) => row.visitors, text: count },
    { title: "Conversions", number: true, value: (row) => row.conversions, text: count },
    { title: "Rate", number: true, value: (row) => row.rate ?? -1, text: (_, row) => share(row.rate) },
    { title: "95 % interval", number: true, value: (row) => row.interval[0], text: (_, row) => `${share(row.interval[0])} to ${share(row.interval[1])}` },
    { title: "Difference", number: true, value: (row) => row.difference ?? 0, text: (value, row) => (row.isControl ? "control" : points(value)) },
    { title: "At any time", number: true, value: (row) => row.anytime?.[0] ?? 0, text: (_, row) => (row.anytime ? `${points(row.anytime[0])} to ${points(row.anytime[1])}` : "") },
    { title: "p", number: true, value: (row) => row.p ?? 1, text: (_, row) => small(row.p) },
    { title: "Value a visitor", number: true, value: (row) => row.value ?? 0, text: (_, row) => (row.value === null ? "–" : row.value.toFixed(3)) },
  ], (row) => row.variant, "No visitor has got a variant yet.");
  const element = h("section", { class: "panel stack" },
    h("div", { class: "panel-head" }, h("h2", {}, name), h("label", { for: `goal-${name}` }, "Goal ", select)),
    note, warning, verdict, variants.element,
    h("div", { class: "halves" },
      h("div", {}, h("h3", {}, "Rates with their intervals"), strips),
      h("div", {}, h("h3", {}, "Visitors"), split.element)),
    lines);
  let plot = null;
  let plotted = "";
  let covered = 0;

  function history(rows) {
    const names = rows.slice(0, LINES).map((row) => row.variant);
    if (plotted !== names.join("\n")) {
      plotted = names.join("\n");
      plot = chart({
        title: `${name}: rate over time`, format: share, label: (at) => (covered < DAY ? clock(at).slice(0, covered < DAY / 100 ? 8 : 5) : when(at)),
        series: names.map((one, index) => ({ name: one, tone: tone(index), value: (point) => rate(point.visitors[index], point.conversions[index]?.[goal] ?? 0) })),
      });
      lines.replaceChildren(plot.element);
    }
    const now = { at: found.last * 1_000, visitors: found.variants.map((one) => one.visitors), conversions: found.variants.map((one) => one.conversions) };
    covered = now.at - (found.history[0]?.at ?? found.last) * 1_000;
    plot.update([...found.history.map((point) => ({ ...point, at: point.at * 1_000 })), now]);
  }

  function draw() {
    const rows = rowsOf(found, goal);
    variants.update(rows);
    strips.replaceChildren(...intervals(rows));
    split.update(rows.map((row) => ({ name: row.variant, value: row.visitors, tone: row.tone })));
    if (rows.length && found.history?.length) history(rows);
    const different = rows.filter((row) => row.p !== null && row.p <= LEVEL / Math.max(1, rows.length - 1));
    const words = different.map((row) => `${row.variant} converts ${row.difference > 0 ? "more" : "less"} than ${rows.find((one) => one.isControl).variant} (5 % level, at any time).`);
    put(verdict, !rows.length ? "" : words.length ? words.join(" ") : "No variant differs from the control so far.");
    const weights = Object.fromEntries(Object.entries(found.weights));
    const names = [...rows.map((row) => row.variant), ...Object.keys(weights).filter((one) => !rows.some((row) => row.variant === one))];
    const p = splitValue(names.map((one) => rows.find((row) => row.variant === one)?.visitors ?? 0), names.map((one) => weights[one] ?? 0));
    put(warning, p <= SPLIT_LEVEL ? "Visitors were not split by the weights: do not trust a difference." : "");
  }

  return { element, update(next) {
    found = next;
    const goals = found.goals?.length ? found.goals : ["request"];
    if (!goals.includes(goal)) goal = goals.includes("request") ? "request" : goals[0];
    if ([...select.options].map((one) => one.value).join("\n") !== goals.join("\n")) {
      select.replaceChildren(...goals.map((one) => h("option", { value: one }, one)));
    }
    select.value = goal;
    const since = found.since ? `counted for ${span(Date.now() / 1_000 - found.since)}` : "nothing is counted yet";
    put(note, [since, found.mixed ? `${count(found.mixed)} visitors got two variants and are left out` : "",
      found.left_out ? `${count(found.left_out)} reports were beyond the bounds` : ""].filter(Boolean).join(" · "));
    draw();
  } };
}

export function open(root, app) {
  const problem = h("p", { class: "problem", role: "alert" });
  const note = h("p", { class: "detail" });
  const none = h("p", { class: "empty" });
  const list = h("div", { class: "stack" });
  const sections = new Map();
  root.append(panel("Experiments", note, problem, none), list);

  async function load() {
    try {
      const found = await get("/v1/experiments");
      put(problem, "");
      put(note, found.kept ? "The counts survive a restart." : "The counts are lost with a restart, without --experiments-file.");
      put(none, found.experiments.length ? `${count(found.experiments.length)} in the plan.` : "The plan has no experiment.");
      const names = new Set(found.experiments.map((one) => one.name));
      for (const [name, one] of sections) {
        if (!names.has(name)) {
          one.element.remove();
          sections.delete(name);
        }
      }
      for (const one of found.experiments) {
        if (!sections.has(one.name)) {
          sections.set(one.name, section(one.name));
          list.append(sections.get(one.name).element);
        }
        sections.get(one.name).update(one);
      }
    } catch (error) {
      put(problem, error.message);
    }
  }
  load();
  const timer = setInterval(() => {
    if (!document.hidden && !app.paused) load();
  }, EVERY);
  return {
    close() {
      clearInterval(timer);
    },
  };
}
