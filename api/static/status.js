// Has the figures go on by themselves, as events bring them, and draws the last minutes with uPlot.
const live = document.querySelector("#live");
const lost = document.querySelector("#lost");
const scheme = matchMedia("(prefers-color-scheme: dark)");
const HEIGHT = 180;
let charts = [];

function points() {
  return JSON.parse(document.querySelector("#points").dataset.points);
}

// The columns of one chart: time, and as many series as it has names, from its first on.
function columns(figure, all) {
  const first = Number(figure.dataset.chart);
  const names = figure.dataset.names.split(",");
  return all.length ? [all[0], ...all.slice(first, first + names.length)] : [[], ...names.map(() => [])];
}

function clock(seconds) {
  return new Date(1000 * seconds).toLocaleTimeString([], { hourCycle: "h23" });
}

function makeChart(figure) {
  const style = getComputedStyle(document.documentElement);
  const text = style.getPropertyValue("--pico-muted-color");
  const grid = { stroke: style.getPropertyValue("--pico-muted-border-color"), width: 1 };
  const axis = { stroke: text, grid, ticks: grid };
  const names = figure.dataset.names.split(",");
  const series = names.map((label, i) => ({
    label,
    stroke: style.getPropertyValue(`--line-${i + 1}`),
    width: 2,
    points: { show: false },
  }));
  const options = {
    width: figure.clientWidth,
    height: HEIGHT,
    cursor: { y: false },
    legend: { show: names.length > 1, live: false },
    scales: { y: { range: (_, __, max) => [0, Math.max(1, 1.1 * max)] } },
    axes: [{ ...axis, space: 80, values: (_, times) => times.map(clock) }, { ...axis, size: 48 }],
    series: [{}, ...series],
  };
  return new uPlot(options, columns(figure, points()), figure);
}

function draw() {
  charts.forEach(({ chart }) => chart.destroy());
  charts = [...document.querySelectorAll("[data-chart]")].map(figure => ({ figure, chart: makeChart(figure) }));
}

function show(event) {
  lost.hidden = true;
  if (live.contains(document.activeElement)) return; // somebody reads a table by keyboard
  live.innerHTML = event.data;
  const all = points();
  charts.forEach(({ figure, chart }) => chart.setData(columns(figure, all)));
}

draw();
scheme.addEventListener("change", draw);
addEventListener("resize", () => charts.forEach(({ figure, chart }) => {
  chart.setSize({ width: figure.clientWidth, height: HEIGHT });
}));
const source = new EventSource(live.dataset.events);
source.addEventListener("message", show);
source.addEventListener("error", () => { lost.hidden = source.readyState === EventSource.OPEN; });
