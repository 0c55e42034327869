// The tests of `edgerouter experiments report` (python/edgerouter/comparing/statistics.py), with the same numbers.

const LEAST = 20;
const CONCENTRATION = 100;

const rateOf = (arm) => (arm.visitors ? arm.conversions / arm.visitors : 0);

// The p-value of a mixture sequential probability ratio test that both convert alike; it may be looked at any time.
export function pValue(one, other, effect) {
  const visitors = one.visitors + other.visitors;
  const conversions = one.conversions + other.conversions;
  if (!one.visitors || !other.visitors || Math.min(conversions, visitors - conversions) < LEAST) return 1;
  const pooled = conversions / visitors;
  const variance = pooled * (1 - pooled) * (1 / one.visitors + 1 / other.visitors);
  const mixture = effect * effect;
  const square = (rateOf(other) - rateOf(one)) ** 2;
  const ratio = (mixture * square) / (2 * variance * (variance + mixture)) + 0.5 * Math.log(variance / (variance + mixture));
  return ratio > 0 ? Math.exp(-ratio) : 1;
}

// An interval for the difference of the rates that holds at all times.
export function difference(one, other, effect, level) {
  if (!one.visitors || !other.visitors) return [-1, 1];
  const part = (arm) => {
    const rate = (arm.conversions + 1) / (arm.visitors + 2);
    return (rate * (1 - rate)) / arm.visitors;
  };
  const variance = part(one) + part(other);
  const mixture = effect * effect;
  const spread = (2 * variance * (variance + mixture)) / mixture;
  const width = Math.sqrt(spread * (Math.log(1 / level) + 0.5 * Math.log((variance + mixture) / variance)));
  const middle = rateOf(other) - rateOf(one);
  return [Math.max(-1, middle - width), Math.min(1, middle + width)];
}

// The 95 % interval of one rate (Wilson), for one look.
export function wilson(arm) {
  if (!arm.visitors) return [0, 1];
  const z = 1.959964;
  const part = (z * z) / arm.visitors;
  const rate = rateOf(arm);
  const middle = rate + part / 2;
  const width = z * Math.sqrt((rate * (1 - rate)) / arm.visitors + part / (4 * arm.visitors));
  return [Math.max(0, (middle - width) / (1 + part)), Math.min(1, (middle + width) / (1 + part))];
}

// The logarithm of the gamma function (Lanczos).
function logGamma(x) {
  const terms = [676.5203681218851, -1259.1392167224028, 771.3234287776531, -176.6150291621406, 12.507343278686905, -0.13857109526572012, 9.984369578019572e-6, 1.5056327351493116e-7];
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
  const y = x - 1;
  const sum = terms.reduce((all, term, index) => all + term / (y + index + 1), 0.9999999999998099);
  const t = y + terms.length - 0.5;
  return 0.5 * Math.log(2 * Math.PI) + (y + 0.5) * Math.log(t) - t + Math.log(sum);
}

// The p-value that visitors were split by the weights, at any time.
export function splitValue(counts, weights) {
  const total = counts.reduce((a, b) => a + b, 0);
  const pairs = counts.map((value, index) => [value, weights[index]]).filter(([, weight]) => weight > 0);
  const used = pairs.reduce((sum, [value]) => sum + value, 0);
  if (pairs.length === 0 || counts.length < 2) return 1;
  if (used < total) return 0;
  const whole = pairs.reduce((sum, [, weight]) => sum + weight, 0);
  let ratio = logGamma(CONCENTRATION) - logGamma(CONCENTRATION + total);
  for (const [value, weight] of pairs) {
    const part = weight / whole;
    ratio += logGamma(CONCENTRATION * part + value) - logGamma(CONCENTRATION * part) - value * Math.log(part);
  }
  return ratio > 0 ? Math.exp(-ratio) : 1;
}
