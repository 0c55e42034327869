// The frame: login, navigation, theme, and the stream of numbers that the views show.

import * as api from "./api.js";
import { h, plural, put } from "./dom.js";
import { Samples } from "./metrics.js";
import * as cache from "./cache.js";
import * as costs from "./costs.js";
import * as events from "./events.js";
import * as experiments from "./experiments.js";
import * as functions from "./functions.js";
import * as overview from "./overview.js";
import * as plan from "./plan.js";
import * as requests from "./requests.js";
import * as traffic from "./traffic.js";

const VIEWS = { overview, traffic, cache, requests, functions, experiments, events, plan, costs };
// Rates are those of about this many milliseconds.
const WINDOW = 10_000;
const KEPT_SAMPLES = 360;
const KEPT_EVENTS = 128;

const $ = (id) => document.getElementById(id);

// Everything that views may read.
const app = {
  role: null,
  now: null,
  rates: null,
  seconds: 1,
  history: [],
  events: [],
  paused: false,
};

let recent = [];
let view = null;
let stop = null;
let connected = null;

function readTheme() {
  let chosen = "";
  try {
    chosen = localStorage.getItem("edgerouter-theme") ?? "";
  } catch {
    // Storage may be forbidden: then the choice lasts as long as the page.
  }
  $("theme").value = chosen;
  setTheme(chosen);
}

function setTheme(chosen) {
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
}

function show() {
  const name = location.hash.replace(/^#\/?/, "").split("?")[0] || "overview";
  if (name === "main") return;
  const chosen = VIEWS[name] ?? overview;
  view?.close?.();
  const main = $("main");
  main.replaceChildren(h("h1", { class: "unseen" }, chosen.title));
  document.title = `${chosen.title} – edgerouter`;
  view = chosen.open(main, app);
  for (const link of $("nav").querySelectorAll("a")) {
    if (link.hash === `#/${VIEWS[name] ? name : "overview"}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  update();
}

function update() {
  if (app.now && view) view.update?.(app);
}

function frame() {
  if (!app.now) return;
  const { now } = app;
  const version = now.total("edgerouter_plan_version");
  put($("edge"), `${app.name ?? ""}${app.name ? " · " : ""}plan ${version} · ${plural(now.total("edgerouter_connections"), "connection")}`);
  const without = (name) => [...now.values(name)].filter((one) => one.value === 0).map((one) => one.labels.origin);
  const down = without("edgerouter_origin_healthy");
  const failed = without("edgerouter_origin_up").filter((origin) => !down.includes(origin));
  const failing = now.total("edgerouter_disk_failing") > 0;
  const problems = [
    ...(down.length ? [`${down.join(", ")} unhealthy`] : []),
    ...(failed.length ? [`${failed.join(", ")}: last request failed`] : []),
    ...(failing ? ["the disk cache cannot be written"] : []),
  ];
  const state = $("state");
  const text = connected === false ? "Connection lost; trying again" : app.paused ? "Paused" : problems.length ? problems.join("; ") : "All origins healthy";
  state.className = `state ${connected === false ? "bad" : app.paused ? "idle" : problems.length ? "warn" : "good"}`;
  put(state, text);
}

function take(text) {
  if (app.paused) return;
  const samples = Samples.read(text, Date.now());
  recent = recent.filter((one) => samples.at - one.at <= WINDOW + 3_000);
  const before = recent[0] ?? samples;
  recent.push(samples);
  app.now = samples;
  app.seconds = Math.max(0.5, (samples.at - before.at) / 1_000);
  app.grown = samples.since(before);
  if (before === samples) app.grown = new Samples(samples.at, new Map());
  app.rate = (name, labels) => app.grown.total(name, labels) / app.seconds;
  frame();
  update();
}

function start() {
  stop?.();
  const after = () => `/v1/live?after=${app.history.at(-1)?.at ?? 0}`;
  stop = api.stream(after, {
    metrics: take,
    samples(list) {
      app.history = [...app.history, ...list].slice(-KEPT_SAMPLES);
    },
    events(list) {
      const ids = new Set(list.map((event) => event.id));
      const all = [...app.events.filter((event) => !ids.has(event.id)), ...list];
      // Talkative functions do not displace the errors.
      const kept = (isInfo) => all.filter((event) => (event.level === "info") === isInfo).slice(-KEPT_EVENTS);
      app.events = [...kept(true), ...kept(false)].sort((a, b) => a.number - b.number);
      if (list.some((event) => event.message.includes("plan"))) name();
    },
  }, (open) => {
    connected = open;
    if (!open) check();
    frame();
  });
}

// The stream ended: perhaps the login did.
async function check() {
  try {
    const session = await api.session();
    if (!session.role) welcome();
  } catch {
    // The edge does not answer; the stream is opened again.
  }
}

async function name() {
  try {
    const found = await api.get("/v1/plan");
    app.name = found.name;
    frame();
  } catch {
    // The name is not essential.
  }
}

function enter(session) {
  app.role = session.role;
  $("logout").hidden = !session.login;
  $("nav").hidden = false;
  $("pause").hidden = false;
  const links = Object.entries(VIEWS).map(([key, one]) => h("a", { href: `#/${key}` }, one.title));
  $("nav").replaceChildren(...links);
  document.body.classList.remove("locked");
  start();
  name();
  show();
}

function welcome() {
  stop?.();
  view?.close?.();
  view = null;
  document.body.classList.add("locked");
  $("nav").hidden = true;
  $("pause").hidden = true;
  $("logout").hidden = true;
  const token = h("input", { type: "password", id: "token", name: "token", autocomplete: "current-password", required: true, autofocus: true });
  const problem = h("p", { class: "problem", role: "alert" });
  const form = h("form", { class: "login panel", onsubmit: async (event) => {
    event.preventDefault();
    put(problem, "");
    try {
      enter(await api.login(token.value));
    } catch (error) {
      put(problem, error.message);
      token.select();
    }
  } },
  h("h1", {}, "Log in"),
  h("p", {}, "The token of this listener: that of --admin-token-env, or of --admin-reader-token-env to look only."),
  h("label", { for: "token" }, "Token"), token,
  h("button", { type: "submit", class: "primary" }, "Log in"), problem);
  $("main").replaceChildren(form);
  put($("state"), "");
  put($("edge"), "");
  token.focus();
}

$("theme").addEventListener("change", (event) => {
  setTheme(event.target.value);
  try {
    localStorage.setItem("edgerouter-theme", event.target.value);
  } catch {
    // As above.
  }
});
$("pause").addEventListener("click", () => {
  app.paused = !app.paused;
  $("pause").setAttribute("aria-pressed", String(app.paused));
  put($("pause"), app.paused ? "Go on" : "Pause");
  frame();
});
$("logout").addEventListener("click", async () => {
  await api.logout().catch(() => {});
  welcome();
});
window.addEventListener("hashchange", () => {
  if (!document.body.classList.contains("locked")) show();
});
// A page that nobody looks at costs the edge nothing.
document.addEventListener("visibilitychange", () => {
  if (document.body.classList.contains("locked") || !app.role) return;
  if (document.hidden) {
    stop?.();
    stop = null;
  } else if (!stop) start();
});

readTheme();
api.session().then((session) => (session.role ? enter(session) : welcome())).catch((error) => {
  $("main").replaceChildren(h("p", { class: "problem", role: "alert" }, `The listener did not answer: ${error.message}`));
});
