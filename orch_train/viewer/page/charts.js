"use strict";
// Charts by uPlot (vendor/): lines with smoothing, and stacked bars. Colours are the style sheet's.

const HEIGHT = 168;
const WHOLE = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((n) => n * 10 ** power)).flat();
const SECONDS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400, 172800, 604800];
let plots = [];

/** Exponential moving average that starts unbiased; gaps stay gaps. */
function smooth(values, weight) {
  let sum = 0;
  let mass = 0;
  return values.map((v) => {
    if (v === null) return null;
    sum = weight * sum + v;
    mass = weight * mass + 1;
    return sum / mass;
  });
}

/**
 * A card with a chart.
 * spec: {title, note, series: [{label, kind, x: [], y: [], low: [], high: [], dash}], stacked, fromZero,
 * smoothing, xName, xLabel, xRange: [from, to], onPick(x), shown(value)}, and what is drawn across:
 * limits: [{y, text}] and marks: [{x, text}]. A series with low and high gets a band between them.
 */
function chart(spec) {
  const body = el("div", { class: "plot", role: "img", "aria-label": describe(spec) });
  const card = el("figure", { class: "card chart", "data-title": spec.title },
    el("figcaption", {}, el("span", { class: "title" }, spec.title),
      spec.note ? el("span", { class: "note" }, spec.note) : null), body);
  if (spec.series.every((s) => s.y.every((v) => v === null))) {
    body.append(el("p", { class: "empty" }, "nothing recorded yet"));
    return card;
  }
  let plot = null;
  new ResizeObserver(() => {
    const width = Math.floor(body.clientWidth);
    if (width < 80 || plot?.width === width) return;
    if (plot) plot.setSize({ width, height: HEIGHT });
    else plots.push(plot = drawChart(spec, body, width));
  }).observe(body);
  return card;
}

/** Free the charts that are no longer on the page. */
function dropOldCharts() {
  const gone = plots.filter((plot) => !plot.root.isConnected);
  plots = plots.filter((plot) => plot.root.isConnected);
  gone.forEach((plot) => plot.destroy());
}

function describe(spec) {
  const last = (s) => (spec.shown || num)(s.y.findLast((v) => v !== null) ?? null);
  return `${spec.title}: ${spec.series.map((s) => `${s.label} last ${last(s)}`).join(", ")}`;
}

function drawChart(spec, body, width) {
  const time = spec.xName === "time_total_s";
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const axis = { stroke: colour("faint"), font: "10.5px system-ui, sans-serif", ticks: { show: false },
    grid: { stroke: colour("line"), width: 1 }, values: (u, marks) => marks.map((v) => num(v, 3)) };
  const pad = { pad: 0.06, mode: 0 };
  const room = { min: spec.fromZero || spec.stacked ? { pad: 0.06, soft: 0, mode: 1 } : pad, max: pad };
  const also = alsoInRange(spec);
  const plot = new uPlot({
    width,
    height: HEIGHT,
    scales: {
      x: { time: false, range: (u, low, high) => {
        // All of it is shown from the same start to the same end in every chart; a part as chosen.
        const whole = spec.xRange && low === u.data[0][0] && high === u.data[0].at(-1);
        const [from, to] = whole ? [Math.min(low, spec.xRange[0]), Math.max(high, spec.xRange[1])] : [low, high];
        const air = spec.stacked ? 0.5 : from === to ? 1 : 0;
        return [from - air, to + air];
      } },
      y: { range: (u, low, high) => (low === null ? [low, high]
        : uPlot.rangeNum(Math.min(low, ...also), Math.max(high, ...also), room)) },
    },
    axes: [
      { ...axis, size: 22, gap: 4, grid: { show: false }, ...(time ? { incrs: SECONDS, values: (u, marks) => marks.map(duration) } : { incrs: WHOLE }) },
      { ...axis, size: 46 },
    ],
    hooks: { ready: [showNewest], drawAxes: [(u) => drawBands(u, spec, colour), (u) => drawAcross(u, spec, colour)] },
    legend: { markers: { dash: (u, number) => (u.series[number].dash ? "dashed" : "solid") } },
    cursor: { y: false, hover: { skip: [undefined, null] } },
    series: [
      { label: spec.xLabel, value: (u, x) => (x === null ? "–" : time ? duration(x) : num(x)) },
      ...spec.series.flatMap((s) => curves(spec, s, colour(s.kind))),
    ],
  }, uPlot.join(tablesOf(spec)), body);
  plot.over.addEventListener("mouseleave", () => showNewest(plot));
  if (spec.onPick) {
    plot.over.classList.add("pickable");
    plot.over.addEventListener("click", (event) => {
      const at = event.clientX - plot.over.getBoundingClientRect().left;
      spec.onPick(plot.data[0][plot.posToIdx(at)]);
    });
  }
  return plot;
}

/** What the y axis must reach besides the lines: bands, and limits that are not far away. */
function alsoInRange(spec) {
  const there = (v) => v !== null && v !== undefined;
  const most = Math.max(...spec.series.flatMap((s) => s.y.filter(there)));
  return [...(spec.limits || []).map((limit) => limit.y).filter((y) => most >= y / 5),
    ...spec.series.flatMap((s) => [...(s.low || []), ...(s.high || [])]).filter(there), ...(spec.least ? [spec.least] : [])];
}

/** Intervals: a whisker at every value, and a band between neighbours. */
function drawBands(u, spec, colour) {
  for (const s of spec.series.filter((one) => one.low && one.high)) {
    const points = s.x.map((x, i) => [x, s.low[i], s.high[i]]).filter((p) => p.every((v) => v !== null && v !== undefined))
      .map(([x, low, high]) => [u.valToPos(x, "x", true), u.valToPos(low, "y", true), u.valToPos(high, "y", true)]);
    if (!points.length) continue;
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    u.ctx.clip();
    u.ctx.strokeStyle = u.ctx.fillStyle = colour(s.kind);
    u.ctx.globalAlpha = 0.13;
    u.ctx.beginPath();
    points.forEach(([x, low]) => u.ctx.lineTo(x, low));
    points.toReversed().forEach(([x, , high]) => u.ctx.lineTo(x, high));
    u.ctx.fill();
    u.ctx.globalAlpha = 0.4;
    u.ctx.lineWidth = devicePixelRatio;
    u.ctx.beginPath();
    points.forEach(([x, low, high]) => { u.ctx.moveTo(x, low); u.ctx.lineTo(x, high); });
    u.ctx.stroke();
    u.ctx.restore();
  }
}

/** Limits that the docs give, and moments: dashed lines with their names. */
function drawAcross(u, spec, colour) {
  const { left, top, width, height } = u.bbox;
  const lines = [
    ...(spec.limits || []).map((l) => [l.text, left, u.valToPos(l.y, "y", true), left + width, u.valToPos(l.y, "y", true)]),
    ...(spec.marks || []).map((m) => [m.text, u.valToPos(m.x, "x", true), top, u.valToPos(m.x, "x", true), top + height]),
  ].filter(([, x, y]) => x >= left && x <= left + width && y >= top && y <= top + height);
  u.ctx.save();
  u.ctx.strokeStyle = u.ctx.fillStyle = colour("warn");
  u.ctx.lineWidth = devicePixelRatio;
  u.ctx.font = `${10.5 * devicePixelRatio}px system-ui, sans-serif`;
  u.ctx.textBaseline = "alphabetic";
  u.ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
  for (const [text, x0, y0, x1, y1] of lines) {
    u.ctx.beginPath();
    u.ctx.moveTo(x0, y0);
    u.ctx.lineTo(x1, y1);
    u.ctx.stroke();
    const right = x0 + u.ctx.measureText(text).width + 8 * devicePixelRatio > left + width;
    u.ctx.textAlign = right ? "right" : "left";
    u.ctx.fillText(text, x0 + (right ? -4 : 4) * devicePixelRatio, y0 + (y0 === top ? 11 : y0 - top < 16 ? 12 : -4) * devicePixelRatio);
  }
  u.ctx.restore();
}

/** Without a pointer the legend shows the newest values. */
function showNewest(plot) {
  const there = (v) => v !== null && v !== undefined;
  plot.setLegend({ idxs: plot.data.map((values) => values.findLastIndex(there)) });
}

/** What is drawn and, behind it, what was measured: the legend reads its values from the second. */
function curves(spec, s, colour) {
  const value = (u, v, at, index) => (spec.shown || num)(index === null ? null : u.data[at + 1][index]);
  const line = { stroke: colour, width: 1.8, dash: s.dash ? [5, 3] : null, spanGaps: true };
  const bars = { stroke: colour, fill: colour, width: 0, paths: uPlot.paths.bars({ size: [0.9] }), points: { show: false } };
  return [
    { label: s.label, value, ...(spec.stacked ? bars : line) },
    { ...line, show: Boolean(spec.smoothing) && !spec.stacked, class: "measured", alpha: 0.25, width: 1.2, points: { show: false } },
  ];
}

/** x, drawn and measured values of each series; a layer of a stack holds those after it, too. */
function tablesOf(spec) {
  return spec.series.map((s, number) => {
    const above = spec.series.slice(number + 1);
    const drawn = spec.stacked ? s.y.map((v, i) => above.reduce((sum, other) => sum + other.y[i], v))
      : spec.smoothing ? smooth(s.y, spec.smoothing) : s.y;
    const kept = (values) => values.filter((_, i) => s.x[i] !== null);
    return [kept(s.x), kept(drawn), kept(s.y)];
  });
}
