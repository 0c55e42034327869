// Made by the edge from its route table. A new table has a new version, and a browser that sees it installs it anew.
"use strict";

const EDGE = __EDGE__;
const PREFIX = `edgerouter:${EDGE.name}:${EDGE.scope}:`;
const PRECACHE = `${PREFIX}precache:${EDGE.version}`;
const RUNTIME = `${PREFIX}runtime:${EDGE.version}`;
const PRECACHED = new Set(EDGE.precache.map((path) => new URL(path, self.location.origin).href));
const API = EDGE.api.map(
  (glob) => new RegExp(`^${glob.replace(/[.+^${}()|[\]\\]/g, "\\$&").replace(/\*/g, ".*").replace(/\?/g, ".")}$`),
);

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("fetch", (event) => {
  const answer = strategy(event.request);
  if (answer) event.respondWith(answer(event));
});

// All of the list or nothing, as the Cache API's addAll, and without cookies: what is kept for everybody to use offline
// must be what anybody gets.
async function install() {
  const cache = await caches.open(PRECACHE);
  await Promise.all(
    EDGE.precache.map(async (path) => {
      const response = await fetch(new Request(path, { cache: "reload", credentials: "omit" }));
      if (!storable(response)) throw new Error(`${path} (${response.status}) may not be precached`);
      await cache.put(path, response);
    }),
  );
  await self.skipWaiting();
}

async function activate() {
  const names = await caches.keys();
  const old = names.filter((name) => name.startsWith(PREFIX) && name !== PRECACHE && name !== RUNTIME);
  await Promise.all(old.map((name) => caches.delete(name)));
  await self.clients.claim();
}

// How a request is answered; null: by the browser, as if there were no worker.
function strategy(request) {
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== self.location.origin) return null;
  if (request.cache === "no-store" || request.headers.has("range")) return null;
  if (request.headers.has("authorization") && !EDGE.authorized) return null;
  if (request.mode === "navigate") return networkFirst;
  if (API.some((pattern) => pattern.test(url.pathname)) || PRECACHED.has(url.origin + url.pathname + url.search)) {
    return staleWhileRevalidate;
  }
  return null;
}

async function networkFirst(event) {
  try {
    const response = await fetch(event.request);
    keep(event, response);
    return response;
  } catch {
    return (await stored(event.request)) || (await offline()) || Response.error();
  }
}

async function staleWhileRevalidate(event) {
  const known = await stored(event.request);
  const fresh = fetch(event.request).then((response) => {
    keep(event, response);
    return response;
  });
  if (!known) return fresh;
  event.waitUntil(fresh.catch(() => undefined));
  return known;
}

async function stored(request) {
  for (const name of [PRECACHE, RUNTIME]) {
    const response = await (await caches.open(name)).match(request);
    if (response) return response;
  }
  return undefined;
}

async function offline() {
  return EDGE.offline ? (await caches.open(PRECACHE)).match(EDGE.offline, { ignoreVary: true }) : undefined;
}

// Remembers an answer that may be, and forgets what an answer that may not has replaced.
function keep(event, response) {
  const { request } = event;
  if (storable(response)) {
    event.waitUntil(put(request, response.clone()));
  } else if (response.status < 500 && response.type === "basic") {
    event.waitUntil(forget(request));
  }
}

async function put(request, response) {
  const name = PRECACHED.has(request.url) ? PRECACHE : RUNTIME;
  const cache = await caches.open(name);
  await cache.put(request, response);
  if (name === RUNTIME) {
    const keys = await cache.keys();
    await Promise.all(keys.slice(0, Math.max(0, keys.length - EDGE.entries)).map((key) => cache.delete(key)));
  }
}

async function forget(request) {
  await (await caches.open(RUNTIME)).delete(request, { ignoreVary: true });
}

// Whole, successful, of this site, and nobody's own. A worker cannot see Set-Cookie: the edge marks such responses.
function storable(response) {
  const { headers } = response;
  return (
    response.status === 200 &&
    response.type === "basic" &&
    !response.redirected &&
    !/(^|[\s,])(no-store|private)(?![\w-])/i.test(headers.get("cache-control") || "") &&
    !/(^|[\s,])(\*|cookie|authorization)(?![\w-])/i.test(headers.get("vary") || "") &&
    !headers.has("x-edge-personal")
  );
}
