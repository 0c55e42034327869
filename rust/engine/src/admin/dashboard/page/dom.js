// Elements from values. Text is always text: no string ever becomes markup.

export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A section with a heading; `note` stands beside it.
export function panel(title, note, ...children) {
  return h("section", { class: "panel" }, h("div", { class: "panel-head" }, h("h2", {}, title), note ?? ""), ...children);
}

export function empty(text) {
  return h("p", { class: "empty" }, text);
}

// A table whose rows stay the same elements as long as their key does, so that focus and selection survive an update.
// A column: { title, value(row), text(value, row), number, main, cell(row) } where `cell` gives an element.
export function table(caption, columns, key, none = "Nothing yet.") {
  const body = h("tbody");
  const known = new Map();
  let order = null;
  let last = [];
  const heads = columns.map((column, index) => {
    if (!column.value) return h("th", { scope: "col" }, column.title);
    const button = h("button", { type: "button", class: "sort", onclick: () => {
      order = order?.index === index ? { index, down: !order.down } : { index, down: Boolean(column.number) };
      update(last);
    } }, column.title);
    return h("th", { scope: "col", class: column.number ? "number" : null }, button);
  });
  const element = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "unseen" }, caption), h("thead", {}, h("tr", {}, heads)), body));

  function make(row) {
    const cells = columns.map((column, index) => h(index === 0 ? "th" : "td", {
      scope: index === 0 ? "row" : null, class: column.number ? "number" : null, "data-title": column.title,
    }));
    return { line: h("tr", {}, cells), cells, shown: [] };
  }

  function update(rows) {
    last = rows;
    let sorted = rows;
    if (order) {
      const { value } = columns[order.index];
      const sign = order.down ? -1 : 1;
      sorted = [...rows].sort((a, b) => sign * (value(a) > value(b) ? 1 : value(a) < value(b) ? -1 : 0));
    }
    heads.forEach((head, index) => {
      if (order?.index === index) head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const kept = new Set();
    let before = null;
    for (const row of sorted) {
      const name = key(row);
      if (kept.has(name)) continue;
      kept.add(name);
      if (!known.has(name)) known.set(name, make(row));
      const { line, cells, shown } = known.get(name);
      columns.forEach((column, index) => {
        if (column.cell) {
          const mark = column.mark ? column.mark(row) : row;
          if (shown[index] !== mark) {
            shown[index] = mark;
            cells[index].replaceChildren(column.cell(row));
          }
        } else {
          const value = column.value(row);
          put(cells[index], column.text ? column.text(value, row) : String(value ?? ""));
        }
      });
      const next = before ? before.nextSibling : body.firstChild;
      if (line !== next) body.insertBefore(line, next);
      before = line;
    }
    for (const [name, { line }] of known) {
      if (!kept.has(name)) {
        line.remove();
        known.delete(name);
      }
    }
    if (rows.length === 0 && body.childElementCount === 0) {
      body.append(h("tr", { class: "none" }, h("td", { colspan: columns.length }, none)));
    } else if (rows.length > 0) {
      body.querySelector(".none")?.remove();
    }
  }
  update([]);
  return { element, update };
}

// Horizontal bars with names and numbers.
export function bars(caption, format) {
  const list = h("ul", { class: "bars", "aria-label": caption });
  const known = new Map();
  function update(items) {
    const most = Math.max(1e-9, ...items.map((item) => item.value));
    const kept = new Set();
    items.forEach((item, index) => {
      kept.add(item.name);
      if (!known.has(item.name)) {
        const fill = h("span", { class: `fill ${item.tone ?? ""}` });
        const number = h("span", { class: "bar-number" });
        const line = h("li", {}, h("span", { class: "bar-name" }, item.name), h("span", { class: "bar", "aria-hidden": "true" }, fill), number);
        known.set(item.name, { line, fill, number });
      }
      const { line, fill, number } = known.get(item.name);
      fill.style.width = `${(100 * item.value) / most}%`;
      put(number, format(item.value));
      if (list.children[index] !== line) list.insertBefore(line, list.children[index] ?? null);
    });
    for (const [name, { line }] of known) {
      if (!kept.has(name)) {
        line.remove();
        known.delete(name);
      }
    }
    list.classList.toggle("none", items.length === 0);
  }
  return { element: list, update };
}

// Numbers for people.
const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (value) => plain.format(Math.round(value ?? 0));
export const compact = (value) => (Math.abs(value) < 10_000 ? plain.format(Math.round(value)) : short.format(value));
export const rate = (value) => `${!value || value >= 10 ? compact(value ?? 0) : value.toFixed(1)}/s`;
export const share = (value) => (value === null || value === undefined || Number.isNaN(value) ? "–" : `${(100 * value).toFixed(1)} %`);

export function bytes(value) {
  let left = value ?? 0;
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (Math.abs(left) < 1024 || unit === "TiB") {
      return `${unit === "B" || left >= 100 ? Math.round(left) : left.toFixed(1)} ${unit}`;
    }
    left /= 1024;
  }
  return "";
}

export function seconds(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${(value * 1e3).toFixed(value < 0.01 ? 2 : value < 0.1 ? 1 : 0)} ms`;
  return `${value.toFixed(2)} s`;
}

export function span(value) {
  const left = Math.max(0, Math.round(Math.abs(value)));
  const text = left < 120 ? `${left} s` : left < 7_200 ? `${Math.round(left / 60)} min`
    : left < 172_800 ? `${Math.round(left / 3_600)} h` : `${Math.round(left / 86_400)} d`;
  return value < 0 ? `−${text}` : text;
}

export const plural = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
export const clock = (at) => new Date(at).toLocaleTimeString("en-GB");
