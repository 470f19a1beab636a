// Lines, stacked bars and sparklines, as SVG. A series is {name, color, values}; null is a gap.

import { clock, h, svg } from "./format.js";

const WIDTH = 600;
const HEIGHT = 150;
const NICE = [1, 2, 4, 6, 8, 10];

// The first round number that is not below `value`; half of it is a whole number if `isWhole`.
function ceiling(value, isWhole) {
  const least = isWhole ? Math.max(2, value) : value || 1;
  const power = 10 ** Math.floor(Math.log10(least));
  return NICE.find((step) => step * power >= least * 0.9999) * power;
}

// `values` joined, `size` at a time, by their mean: a second is too narrow to be seen.
export function condensed(values, size) {
  const joined = [];
  for (let at = 0; at < values.length; at += size) {
    const part = values.slice(at, at + size);
    joined.push(part.reduce((sum, one) => sum + one, 0) / part.length);
  }
  return joined;
}

function path(values, x, y) {
  let drawn = "";
  let isOpen = false;
  values.forEach((value, at) => {
    if (value !== null) {
      drawn += `${isOpen ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    }
    isOpen = value !== null;
  });
  return drawn;
}

function lines(series, x, y) {
  return series.flatMap(({ color, values, filled }) => {
    const drawn = path(values, x, y);
    const line = svg("path", { d: drawn, class: `plot-line c-${color}`, stroke: "currentColor" });
    if (!filled || !drawn) {
      return [line];
    }
    const below = `${drawn}L${x(values.length - 1)} ${HEIGHT}L${x(0)} ${HEIGHT}Z`;
    return [svg("path", { d: below, class: `plot-area c-${color}`, fill: "currentColor" }), line];
  });
}

function bars(series, x, y, width) {
  const stacked = series[0].values.map(() => 0);
  return series.flatMap(({ color, values }) =>
    values.flatMap((value, at) => {
      if (!value) {
        return [];
      }
      const from = stacked[at];
      stacked[at] += value;
      const top = y(stacked[at]);
      const box = { x: x(at) - width / 2, y: top, width: width * 0.85, height: Math.max(1, y(from) - top) };
      return [svg("rect", { ...box, class: `c-${color}`, fill: "currentColor" })];
    }),
  );
}

function highest(series, isStacked) {
  const sums = isStacked
    ? series[0].values.map((_, at) => series.reduce((sum, one) => sum + one.values[at], 0))
    : series.flatMap((one) => one.values);
  return Math.max(0, ...sums.filter((one) => one !== null));
}

// Draws into `place`. `end` is the time of the right edge and `step` the seconds of one value.
export function chart(place, { series, end, step, said, isStacked = false }) {
  const size = series[0].values.length;
  const top = ceiling(highest(series, isStacked), isStacked);
  const slot = WIDTH / size;
  const x = (at) => (isStacked ? (at + 0.5) * slot : (at / Math.max(1, size - 1)) * WIDTH);
  const y = (value) => HEIGHT - (value / top) * HEIGHT;
  const grid = [0, 0.5, 1].map((part) => {
    const level = HEIGHT * (1 - part);
    return svg("line", { x1: 0, x2: WIDTH, y1: level, y2: level, class: "grid" });
  });
  const drawn = isStacked ? bars(series, x, y, slot) : lines(series, x, y);
  const label = series.map(({ name, values }) => `${name} ${said(values[values.length - 1] ?? 0)}`).join(", ");
  const image = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `Now: ${label}` },
    ...grid,
    ...drawn,
  );
  const axes = [0.5, 1].map((part) => {
    const text = h("span", { class: "axis y" }, said(top * part));
    text.style.top = `${(1 - part) * 100}%`;
    return text;
  });
  const plot = h("div", { class: "chart" }, image, ...axes);
  const minutes = Math.round((size * step) / 60);
  const ticks = [minutes, Math.round((minutes * 2) / 3), Math.round(minutes / 3)].map((one) => h("span", {}, `−${one} min`));
  place.replaceChildren(
    plot,
    h("div", { class: "ticks" }, ...ticks, h("span", {}, "now")),
    h("ul", { class: "legend" }, series.map(({ name, color }) => h("li", { class: `c-${color}` }, h("span", {}, name)))),
  );
  point(plot, image, { series, end, step, said, size, x });
}

// What the values are where the pointer is.
function point(plot, image, { series, end, step, said, size, x }) {
  const tip = h("div", { class: "tip", hidden: true });
  const cross = svg("line", { y1: 0, y2: HEIGHT, class: "cross", visibility: "hidden" });
  image.append(cross);
  plot.append(tip);
  plot.addEventListener("pointermove", (event) => {
    const box = image.getBoundingClientRect();
    const at = Math.min(size - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * size)));
    const values = series.map(({ name, values }) => (values[at] === null ? null : `${name} ${said(values[at])}`));
    tip.textContent = [clock(end - (size - at) * step), ...values.filter(Boolean)].join(" · ");
    tip.hidden = false;
    const left = (x(at) / WIDTH) * box.width;
    tip.style.left = `${Math.max(0, Math.min(left + 8, box.width - tip.offsetWidth))}px`;
    cross.setAttribute("x1", x(at));
    cross.setAttribute("x2", x(at));
    cross.setAttribute("visibility", "visible");
  });
  plot.addEventListener("pointerleave", () => {
    tip.hidden = true;
    cross.setAttribute("visibility", "hidden");
  });
}

export function sparkline(requests, errors) {
  const top = Math.max(1, ...requests);
  const slot = 150 / requests.length;
  const bar = (value, at, color) =>
    svg("rect", {
      x: at * slot,
      y: 26 - (value / top) * 26,
      width: slot * 0.8,
      height: (value / top) * 26,
      class: `c-${color}`,
      fill: "currentColor",
    });
  const drawn = requests.flatMap((value, at) => [
    ...(value ? [bar(value, at, "one")] : []),
    ...(errors[at] ? [bar(errors[at], at, "bad")] : []),
  ]);
  return svg("svg", { viewBox: "0 0 150 26", preserveAspectRatio: "none", class: "spark", "aria-hidden": "true" }, ...drawn);
}

// Shares of a whole, as one bar.
export function meter(parts) {
  const whole = parts.reduce((sum, [, value]) => sum + value, 0) || 1;
  return h("div", { class: "meter", "aria-hidden": "true" }, parts.map(([color, value]) => {
    const part = h("i", { class: `c-${color}` });
    part.style.width = `${(value / whole) * 100}%`;
    return part;
  }));
}
