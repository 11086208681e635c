"use strict";
// Line and stacked charts in SVG. A chart draws itself anew when its width changes.

const PAD = { left: 46, right: 10, top: 8, bottom: 20 };
const HEIGHT = 168;
const MAX_POINTS = 500;

/** Round ticks over a range, about `count` of them. */
function ticks(low, high, count) {
  const span = high - low || 1;
  const raw = span / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw) || raw;
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) found.push(k * step);
  return found;
}

/** Exponential moving average that starts unbiased; gaps stay gaps. */
function smooth(values, weight) {
  if (!weight) return values;
  let sum = 0;
  let mass = 0;
  return values.map((v) => {
    if (v === null) return null;
    sum = weight * sum + v;
    mass = weight * mass + 1;
    return sum / mass;
  });
}

/** At most MAX_POINTS points: of each stretch its first, lowest and highest, so spikes survive. */
function thin(points) {
  if (points.length <= MAX_POINTS) return points;
  const size = Math.ceil((3 * points.length) / MAX_POINTS);
  const kept = [];
  for (let i = 0; i < points.length; i += size) {
    const part = points.slice(i, i + size);
    const low = part.reduce((a, b) => (b[1] < a[1] ? b : a));
    const high = part.reduce((a, b) => (b[1] > a[1] ? b : a));
    kept.push(...new Set([part[0], low, high].sort((a, b) => a[0] - b[0])));
  }
  kept.push(points[points.length - 1]);
  return kept;
}

/** A range around values with a little air; a flat line gets a band around it. */
function rangeOf(values, fromZero) {
  let low = Infinity;
  let high = -Infinity;
  for (const v of values) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  if (low > high) return null;
  if (fromZero) low = Math.min(0, low);
  if (low === high) return low === 0 ? [0, 1] : [low - Math.abs(low) * 0.1, high + Math.abs(high) * 0.1];
  const air = (high - low) * 0.06;
  return [fromZero && low === 0 ? 0 : low - air, high + air];
}

/**
 * A card with a chart.
 * spec: {title, note, series: [{label, kind, x: [], y: [], dash}], stacked, fromZero, smoothing,
 * xName, onPick(x, seriesIndex), unit}
 */
function chart(spec) {
  const body = el("div", { class: "plot" });
  const readout = el("div", { class: "readout", "aria-hidden": "true" });
  const card = el("figure", { class: "card chart", "data-title": spec.title },
    el("figcaption", {}, el("span", { class: "title" }, spec.title),
      spec.note ? el("span", { class: "note" }, spec.note) : null),
    body, readout);
  const draw = () => drawChart(spec, body, readout);
  new ResizeObserver(draw).observe(body);
  return card;
}

function drawChart(spec, body, readout) {
  const width = Math.floor(body.clientWidth);
  if (width < 80) return;
  const series = spec.series.map((s) => ({ ...s, shown: smooth(s.y, spec.stacked ? 0 : spec.smoothing) }));
  const xs = series.flatMap((s) => s.x.filter((x, i) => x !== null && s.y[i] !== null));
  const layers = spec.stacked ? stack(series, Math.ceil((2 * xs.length) / (series.length || 1) / width)) : null;
  const ys = layers ? layers.flatMap((l) => l.top) : series.flatMap((s) => [
    ...s.shown.filter((v) => v !== null), ...(spec.smoothing ? s.y.filter((v) => v !== null) : [])]);
  const xr = rangeOf(xs, false);
  const yr = rangeOf(ys, spec.fromZero || spec.stacked);
  if (!xr || !yr) {
    body.replaceChildren(el("p", { class: "empty" }, "nothing recorded yet"));
    return;
  }
  [xr[0], xr[1]] = edges(xs);
  if (layers) {
    xr[0] -= 0.5;
    xr[1] += 0.5;
  }
  const X = (x) => PAD.left + ((x - xr[0]) / (xr[1] - xr[0])) * (width - PAD.left - PAD.right);
  const Y = (y) => HEIGHT - PAD.bottom - ((y - yr[0]) / (yr[1] - yr[0])) * (HEIGHT - PAD.top - PAD.bottom);
  const image = svg("svg", { width, height: HEIGHT, role: "img", "aria-label": describe(spec, series) });
  drawAxes(image, width, xr, yr, X, Y, spec);
  if (layers) layers.forEach((l) => image.append(bars(l, X, Y)));
  else for (const s of series) drawLine(image, s, X, Y, spec.smoothing);
  const marker = svg("line", { class: "marker", y1: PAD.top, y2: HEIGHT - PAD.bottom, x1: -9, x2: -9 });
  image.append(marker);
  body.replaceChildren(image, legend(spec, series));
  listen(spec, image, series, xr, X, marker, readout, body);
}

function edges(xs) {
  const low = xs.reduce((a, b) => Math.min(a, b), Infinity);
  const high = xs.reduce((a, b) => Math.max(a, b), -Infinity);
  return low === high ? [low - 1, high + 1] : [low, high];
}

function describe(spec, series) {
  const last = (s) => num(s.y.findLast((v) => v !== null) ?? null);
  return `${spec.title}: ${series.map((s) => `${s.label} last ${last(s)}`).join(", ")}`;
}

function drawAxes(image, width, xr, yr, X, Y, spec) {
  for (const t of ticks(yr[0], yr[1], 4)) {
    image.append(svg("line", { class: "grid", x1: PAD.left, x2: width - PAD.right, y1: Y(t), y2: Y(t) }),
      svg("text", { class: "tick", x: PAD.left - 6, y: Y(t) + 3.5, "text-anchor": "end" }, num(t, 3)));
  }
  const shown = spec.xName === "time_total_s" ? duration : (t) => num(t, 3);
  for (const t of ticks(xr[0], xr[1], Math.max(2, Math.floor(width / 90)))) {
    if (spec.xName !== "time_total_s" && !Number.isInteger(t)) continue;
    image.append(svg("text", { class: "tick", x: X(t), y: HEIGHT - 5, "text-anchor": "middle" }, shown(t)));
  }
}

function drawLine(image, s, X, Y, smoothing) {
  const path = (values) => {
    const points = [];
    values.forEach((v, i) => { if (v !== null && s.x[i] !== null) points.push([X(s.x[i]), Y(v)]); });
    return thin(points);
  };
  const d = (points) => points.map((p, i) => `${i ? "L" : "M"}${p[0].toFixed(1)} ${p[1].toFixed(1)}`).join("");
  const raw = path(s.y);
  if (smoothing) image.append(svg("path", { class: `line raw ${s.kind}`, d: d(raw) }));
  const points = path(s.shown);
  image.append(svg("path", { class: `line ${s.kind}`, d: d(points), "stroke-dasharray": s.dash ? "5 3" : null }));
  if (raw.length <= 40) {
    for (const p of points) image.append(svg("circle", { class: `dot ${s.kind}`, cx: p[0].toFixed(1), cy: p[1].toFixed(1), r: 2.2 }));
  }
}

/** Layers on top of each other; `size` neighbouring steps share a bar (their mean) where it is tight. */
function stack(series, size) {
  const starts = (series[0] ? series[0].x : []).map((x, i) => i).filter((i) => i % Math.max(1, size) === 0);
  const base = starts.map(() => 0);
  return series.map((s) => {
    const bottom = base.slice();
    const right = starts.map((i, k) => (k + 1 < starts.length ? s.x[starts[k + 1]] : s.x.at(-1) + 1) - 0.5);
    starts.forEach((i, k) => {
      const part = s.y.slice(i, starts[k + 1]);
      base[k] += part.reduce((a, b) => a + (b || 0), 0) / part.length;
    });
    return { kind: s.kind, left: starts.map((i) => s.x[i] - 0.5), right, bottom, top: base.slice() };
  });
}

function bars(layer, X, Y) {
  const boxes = layer.left.map((x, i) => {
    const [low, high] = [Y(layer.bottom[i]).toFixed(1), Y(layer.top[i]).toFixed(1)];
    const [left, right] = [X(x), X(layer.right[i])];
    const gap = right - left > 4 ? 0.5 : 0;
    return low === high ? "" : `M${(left + gap).toFixed(1)} ${low}V${high}H${(right - gap).toFixed(1)}V${low}Z`;
  });
  return svg("path", { class: `area ${layer.kind}`, d: boxes.join("") });
}

function legend(spec, series) {
  if (series.length < 2 && !spec.match) return el("div", { class: "legend" });
  return el("div", { class: "legend" }, series.map((s) =>
    el("span", {}, el("i", { class: `swatch ${s.kind}${s.dash ? " dashed" : ""}` }), s.label)));
}

function listen(spec, image, series, xr, X, marker, readout, body) {
  const nearest = (event) => {
    const box = image.getBoundingClientRect();
    const at = xr[0] + ((event.clientX - box.left - PAD.left) / (box.width - PAD.left - PAD.right)) * (xr[1] - xr[0]);
    let best = null;
    series.forEach((s) => s.x.forEach((x, i) => {
      if (x === null || s.y[i] === null) return;
      if (best === null || Math.abs(x - at) < Math.abs(best - at)) best = x;
    }));
    return best;
  };
  image.addEventListener("pointermove", (event) => {
    const x = nearest(event);
    if (x === null) return;
    marker.setAttribute("x1", X(x));
    marker.setAttribute("x2", X(x));
    const rows = series.map((s) => {
      const i = s.x.findLastIndex((v, k) => v === x && s.y[k] !== null);
      return i < 0 ? null : el("div", {}, el("i", { class: `swatch ${s.kind}${s.dash ? " dashed" : ""}` }), el("b", {}, num(s.y[i])),
        series.length > 1 ? ` ${s.label}` : "");
    });
    const name = spec.xName === "time_total_s" ? duration(x) : `${spec.xLabel} ${num(x)}`;
    readout.replaceChildren(el("div", { class: "at" }, name), ...rows.filter(Boolean));
    readout.classList.add("on");
    const side = X(x) > body.clientWidth / 2;
    readout.style.left = side ? "auto" : `${X(x) + 12}px`;
    readout.style.right = side ? `${body.clientWidth - X(x) + 12}px` : "auto";
  });
  image.addEventListener("pointerleave", () => {
    readout.classList.remove("on");
    marker.setAttribute("x1", -9);
    marker.setAttribute("x2", -9);
  });
  if (spec.onPick) {
    image.classList.add("pickable");
    image.addEventListener("click", (event) => {
      const x = nearest(event);
      if (x !== null) spec.onPick(x);
    });
  }
}
