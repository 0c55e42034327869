// Calls of the endpoints of this listener, with the login of this page.

const PREFIX = "/dashboard/api";
let secret = null;

export class Refused extends Error {
  constructor(status, field, message) {
    super(field ? `${field}: ${message}` : message);
    this.status = status;
  }
}

async function answer(response) {
  const text = await response.text();
  let data = null;
  try {
    data = JSON.parse(text);
  } catch {
    // The answer of something else than this listener.
  }
  if (!response.ok) {
    const error = data?.error ?? {};
    throw new Refused(response.status, error.field, error.message ?? `answered ${response.status}`);
  }
  return data;
}

function send(path, body) {
  const headers = { "content-type": "application/json" };
  if (secret) headers["x-csrf-token"] = secret;
  return fetch(path, { method: "POST", headers, body: JSON.stringify(body) }).then(answer);
}

export const get = (path, query = {}) => {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one !== "" && one !== null && one !== undefined) given.append(name, one);
  }
  const text = given.toString();
  return fetch(`${PREFIX}${path}${text ? `?${text}` : ""}`).then(answer);
};

export const post = (path, body) => send(`${PREFIX}${path}`, body);

function took(session) {
  secret = session.csrf;
  return session;
}

export const session = () => fetch("/dashboard/session").then(answer).then(took);
export const login = (token) => send("/dashboard/login", { token }).then(took);
export const logout = () => send("/dashboard/logout", {}).then(took);

// A stream of events that opens itself again. `handlers` has a function for each kind of event.
export function stream(path, handlers, changed) {
  let source = null;
  let timer = null;
  let wait = 1_000;
  let closed = false;
  function open() {
    if (closed) return;
    source = new EventSource(`${PREFIX}${typeof path === "function" ? path() : path}`);
    source.onopen = () => {
      wait = 1_000;
      changed?.(true);
    };
    source.onerror = () => {
      source.close();
      changed?.(false);
      timer = setTimeout(open, wait);
      wait = Math.min(wait * 2, 15_000);
    };
    for (const [name, handler] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => handler(JSON.parse(event.data)));
    }
  }
  open();
  return () => {
    closed = true;
    clearTimeout(timer);
    source?.close();
  };
}
