// Words for numbers and times, and elements made of text: nothing here is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

// An element. `attributes` are set as such, but for `class`, `onclick` and the like; null is left out.
export function h(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) {
      made.addEventListener(key.slice(2), value);
    } else if (value !== null && value !== undefined && value !== false) {
      made.setAttribute(key, value === true ? "" : value);
    }
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export function count(number) {
  return number === null || number === undefined ? "–" : number.toLocaleString("en");
}

export function rate(number) {
  return number >= 100 ? Math.round(number).toLocaleString("en") : number.toFixed(1);
}

export function duration(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) {
    return "–";
  }
  if (milliseconds >= 10_000) {
    return `${Math.round(milliseconds / 1000)} s`;
  }
  if (milliseconds >= 1000) {
    return `${(milliseconds / 1000).toFixed(1)} s`;
  }
  return milliseconds >= 10 ? `${Math.round(milliseconds)} ms` : `${milliseconds.toFixed(1)} ms`;
}

export function bytes(number) {
  const power = Math.min(3, Math.floor(Math.log2(Math.max(number, 1)) / 10));
  return power ? `${(number / 1024 ** power).toFixed(1)} ${["", "KiB", "MiB", "GiB"][power]}` : `${number} bytes`;
}

export function percent(share) {
  return share === null || share === undefined ? "–" : `${Math.round(share * 100)} %`;
}

export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

// How long something takes or took, roughly, in the largest unit that fits.
export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (whole >= 2 * size || (unit === "min" && whole >= size)) {
      return `${Math.floor(whole / size)} ${unit}`;
    }
  }
  return `${whole} s`;
}

export function clock(at) {
  return new Date(at * 1000).toLocaleTimeString("en-GB");
}

// A time that `tick` keeps saying how long ago it was.
export function when(at) {
  return at === null || at === undefined
    ? "–"
    : h("time", { "data-at": at, title: new Date(at * 1000).toLocaleString(), class: "number" }, `${clock(at)}`);
}

export function ago(at) {
  return h("time", { "data-ago": at, title: new Date(at * 1000).toLocaleString() }, "");
}

export function tick(now) {
  for (const one of document.querySelectorAll("time[data-ago]")) {
    const said = `${span(now - Number(one.dataset.ago))} ago`;
    if (one.textContent !== said) {
      one.textContent = said;
    }
  }
}
