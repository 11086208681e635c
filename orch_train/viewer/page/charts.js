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
 * spec: {title, note, series: [{label, kind, x: [], y: [], dash}], stacked, fromZero, smoothing,
 * xName, xLabel, onPick(x)}
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
  const last = (s) => num(s.y.findLast((v) => v !== null) ?? null);
  return `${spec.title}: ${spec.series.map((s) => `${s.label} last ${last(s)}`).join(", ")}`;
}

function drawChart(spec, body, width) {
  const time = spec.xName === "time_total_s";
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const axis = { stroke: colour("faint"), font: "10.5px system-ui, sans-serif", ticks: { show: false },
    grid: { stroke: colour("line"), width: 1 }, values: (u, marks) => marks.map((v) => num(v, 3)) };
  const pad = { pad: 0.06, mode: 0 };
  const plot = new uPlot({
    width,
    height: HEIGHT,
    scales: {
      x: { time: false, range: (u, low, high) => {
        const air = spec.stacked ? 0.5 : low === high ? 1 : 0;
        return [low - air, high + air];
      } },
      y: { range: { min: spec.fromZero || spec.stacked ? { pad: 0.06, soft: 0, mode: 1 } : pad, max: pad } },
    },
    axes: [
      { ...axis, size: 22, gap: 4, grid: { show: false }, ...(time ? { incrs: SECONDS, values: (u, marks) => marks.map(duration) } : { incrs: WHOLE }) },
      { ...axis, size: 46 },
    ],
    hooks: { ready: [showNewest] },
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

/** Without a pointer the legend shows the newest values. */
function showNewest(plot) {
  const there = (v) => v !== null && v !== undefined;
  plot.setLegend({ idxs: plot.data.map((values) => values.findLastIndex(there)) });
}

/** What is drawn and, behind it, what was measured: the legend reads its values from the second. */
function curves(spec, s, colour) {
  const value = (u, v, at, index) => num(index === null ? null : u.data[at + 1][index]);
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
