// Charts over time: lines, areas and sparklines. A chart takes the focus, and its arrow keys move through time.

import { clock, h, put, svg } from "./dom.js";

const HEIGHT = 190;
const LEFT = 66;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 24;

// Round ends for an axis, in steps of 1024 for bytes.
function steps(most, binary) {
  if (!(most > 0)) return [0, 1];
  const unit = binary ? 1024 ** Math.max(0, Math.floor(Math.log2(most / 4) / 10)) : 1;
  const raw = most / 4 / unit;
  const base = 10 ** Math.floor(Math.log10(raw));
  const step = unit * base * [1, 2, 2.5, 5, 10].find((one) => one * base >= raw);
  return Array.from({ length: Math.floor(most / step + 1.0001) + 1 }, (_, index) => index * step);
}

// `series`: [{ name, tone, value(point) }]; `label` writes a point's time, `axis` a tick; `stacked` piles areas up; `most` is a fixed upper end, `binary` is for bytes.
export function chart({ title, series, format, stacked = false, most = null, binary = false, label = null, axis = format }) {
  const readout = h("p", { class: "readout", "aria-live": "polite" });
  const canvas = svg("svg", { class: "chart", "aria-hidden": "true", height: HEIGHT });
  const legend = h("ul", { class: "legend" }, series.map((one) =>
    h("li", {}, h("span", { class: `key ${one.tone}`, "aria-hidden": "true" }), one.name)));
  const area = h("div", { class: "chart-area", tabindex: "0", role: "group", "aria-label": `${title}: chart; arrow keys move through time` }, canvas, readout);
  const element = h("figure", { class: "panel figure" },
    h("figcaption", { class: "panel-head" }, h("h2", {}, title), legend), area);
  let points = [];
  let chosen = null;
  let width = 600;

  const x = (index) => LEFT + (points.length < 2 ? 0 : (index * (width - LEFT - RIGHT)) / (points.length - 1));

  function draw() {
    width = Math.max(260, area.clientWidth || 600);
    canvas.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    canvas.setAttribute("width", width);
    canvas.replaceChildren();
    let highest = 0;
    for (const point of points) {
      const values = series.map((one) => one.value(point) ?? 0);
      highest = Math.max(highest, stacked ? values.reduce((a, b) => a + b, 0) : Math.max(...values));
    }
    const ticks = most === null ? steps(highest, binary) : [0, most / 2, most];
    const top = ticks.at(-1);
    const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
    for (const tick of ticks) {
      canvas.append(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }));
      canvas.append(svg("text", { class: "tick", x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, axis(tick)));
    }
    if (points.length > 1) {
      // Dates are longer than times of the day.
      const marks = width < 420 ? (label ? 1 : 2) : 4;
      const long = points.at(-1).at - points[0].at > 300_000;
      for (let mark = 0; mark <= marks; mark += 1) {
        const index = Math.round((mark * (points.length - 1)) / marks);
        const anchor = mark === 0 ? "start" : mark === marks ? "end" : "middle";
        canvas.append(svg("text", { class: "tick", x: x(index), y: HEIGHT - 6, "text-anchor": anchor }, label ? label(points[index].at) : clock(points[index].at).slice(0, long ? 5 : 8)));
      }
      const base = points.map(() => 0);
      for (const one of series) {
        const values = points.map((point, index) => {
          const value = one.value(point);
          if (value === null || value === undefined) return null;
          return stacked ? base[index] + value : value;
        });
        // A pile without height has no line.
        if (stacked && !values.some((value, index) => value !== null && value > base[index])) continue;
        if (stacked) {
          const upper = values.map((value, index) => `${x(index).toFixed(1)},${y(value ?? base[index]).toFixed(1)}`);
          const lower = base.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).reverse();
          canvas.append(svg("polygon", { class: `area ${one.tone}`, points: [...upper, ...lower].join(" ") }));
          values.forEach((value, index) => {
            base[index] = value ?? base[index];
          });
        }
        let path = "";
        let drawing = false;
        values.forEach((value, index) => {
          if (value === null) {
            drawing = false;
            return;
          }
          path += `${drawing ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
          drawing = true;
        });
        canvas.append(svg("path", { class: `line ${one.tone}`, d: path || "M0 0" }));
      }
    } else {
      canvas.append(svg("text", { class: "tick", x: width / 2, y: HEIGHT / 2, "text-anchor": "middle" }, "The first numbers come within seconds."));
    }
    if (chosen !== null && points[chosen]) {
      canvas.append(svg("line", { class: "cursor", x1: x(chosen), x2: x(chosen), y1: TOP, y2: HEIGHT - BOTTOM }));
    }
    tell();
  }

  function tell() {
    const point = points[chosen ?? points.length - 1];
    if (!point) return put(readout, "");
    const values = series.map((one) => `${one.name} ${format(one.value(point))}`);
    const text = `${(label ?? clock)(point.at)}  ${values.join("  ")}`;
    if (chosen !== null || document.activeElement !== area) put(readout, text);
  }

  function choose(index) {
    chosen = index === null ? null : Math.min(Math.max(index, 0), points.length - 1);
    draw();
  }

  area.addEventListener("pointermove", (event) => {
    const box = area.getBoundingClientRect();
    const part = (event.clientX - box.left - LEFT) / (width - LEFT - RIGHT);
    if (points.length > 1) choose(Math.round(part * (points.length - 1)));
  });
  area.addEventListener("pointerleave", () => choose(null));
  area.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) choose((chosen ?? points.length - 1) + step);
    else if (event.key === "Home") choose(0);
    else if (event.key === "End") choose(points.length - 1);
    else if (event.key === "Escape") choose(null);
    else return;
    event.preventDefault();
  });
  new ResizeObserver(() => draw()).observe(area);

  return {
    element,
    update(next) {
      if (chosen !== null) chosen = Math.max(0, chosen - Math.max(0, points.length && next.length === points.length && next[0] !== points[0] ? 1 : 0));
      points = next;
      draw();
    },
  };
}

// A line without axes, for a card.
export function sparkline(tone) {
  const path = svg("path", { class: `line ${tone}`, d: "M0 0" });
  const fill = svg("path", { class: `area ${tone}`, d: "M0 0" });
  const element = svg("svg", { class: "spark", viewBox: "0 0 120 32", preserveAspectRatio: "none", "aria-hidden": "true" }, fill, path);
  return {
    element,
    update(values) {
      const shown = values.slice(-90);
      if (shown.length < 2) return;
      const most = Math.max(1e-12, ...shown.map((value) => value ?? 0));
      const points = shown.map((value, index) =>
        `${((index * 120) / (shown.length - 1)).toFixed(1)} ${(30 - (28 * (value ?? 0)) / most).toFixed(1)}`);
      path.setAttribute("d", `M${points.join("L")}`);
      fill.setAttribute("d", `M0 32L${points.join("L")}L120 32Z`);
    },
  };
}
