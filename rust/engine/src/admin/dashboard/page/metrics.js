// Samples of Prometheus' text, and the growth between two of them.

const LINE = /^(\w+)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

export class Samples {
  constructor(at, families) {
    this.at = at;
    this.families = families;
  }

  static read(text, at) {
    const families = new Map();
    for (const line of text.split("\n")) {
      if (line === "" || line.startsWith("#")) continue;
      const found = LINE.exec(line);
      if (!found) continue;
      const labels = {};
      for (const [, name, value] of (found[2] ?? "").matchAll(LABEL)) {
        labels[name] = value.replace(/\\(.)/g, (_, one) => (one === "n" ? "\n" : one));
      }
      const value = found[3] === "+Inf" ? Infinity : Number(found[3]);
      if (!families.has(found[1])) families.set(found[1], new Map());
      families.get(found[1]).set(found[2] ?? "", { labels, value });
    }
    return new Samples(at, families);
  }

  // Wanted labels have one value or a list of them.
  *values(name, wanted = {}) {
    for (const one of (this.families.get(name) ?? new Map()).values()) {
      const fits = Object.entries(wanted).every(([label, values]) => [values].flat().includes(one.labels[label]));
      if (fits) yield one;
    }
  }

  total(name, wanted) {
    let sum = 0;
    for (const one of this.values(name, wanted)) sum += one.value;
    return sum;
  }

  by(label, name, wanted) {
    const sums = new Map();
    for (const one of this.values(name, wanted)) {
      const key = one.labels[label] ?? "";
      sums.set(key, (sums.get(key) ?? 0) + one.value);
    }
    return sums;
  }

  // The growth of each counter; one that fell was started anew.
  since(earlier) {
    const families = new Map();
    for (const [name, family] of this.families) {
      const before = earlier.families.get(name);
      const grown = new Map();
      for (const [key, { labels, value }] of family) {
        const old = before?.get(key)?.value ?? 0;
        grown.set(key, { labels, value: value >= old ? value - old : value });
      }
      families.set(name, grown);
    }
    return new Samples(this.at, families);
  }

  quantile(wanted, name, labels) {
    const buckets = new Map();
    for (const one of this.values(`${name}_bucket`, labels)) {
      const bound = one.labels.le === "+Inf" ? Infinity : Number(one.labels.le);
      buckets.set(bound, (buckets.get(bound) ?? 0) + one.value);
    }
    const bounds = [...buckets.keys()].sort((a, b) => a - b);
    const all = buckets.get(Infinity) ?? 0;
    if (!all) return null;
    let [from, seen] = [0, 0];
    for (const bound of bounds) {
      const upTo = buckets.get(bound);
      if (upTo >= wanted * all) {
        return bound === Infinity ? from : from + ((bound - from) * (wanted * all - seen)) / (upTo - seen);
      }
      [from, seen] = [bound, upTo];
    }
    return null;
  }
}

export const REQUESTS = "edgerouter_requests_total";
// Outcomes that used the cache, and those of them that no origin was requested for.
export const ANSWERED = ["hit", "stale", "coalesced", "stale-on-error", "disconnected"];
export const LOOKED_UP = [...ANSWERED, "miss", "revalidated"];
export const CLASSES = ["1xx", "2xx", "3xx", "4xx", "5xx"];

export function hitRatio(samples, labels = {}) {
  const looked = samples.total(REQUESTS, { ...labels, cache: LOOKED_UP });
  return looked ? samples.total(REQUESTS, { ...labels, cache: ANSWERED }) / looked : null;
}

// Bytes that viewers got and no origin had to send, and those that compression made unnecessary.
export function saved(samples) {
  const sent = samples.total("edgerouter_response_bytes_total");
  const fetched = samples.total("edgerouter_origin_response_bytes_total");
  const side = (name) => samples.total("edgerouter_compressed_bytes_total", { side: name });
  const compressed = Math.max(0, side("before") - side("after"));
  const cached = Math.max(0, sent - fetched);
  return { cached, compressed, bytes: cached + compressed, share: sent + compressed ? (cached + compressed) / (sent + compressed) : null };
}
