"""What the HTML report looks like, and how its figures are drawn."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --back: #ffffff; --band: #f6f8fa;
  --mark: #0072b2; --warn: #9a3b00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9da7b3; --line: #3d444d; --back: #0e1117; --band: #161b22; --mark: #56b4e9;
    --warn: #f0883e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 1.25rem; margin: 0 0 8px; padding-top: 24px; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 16px 0 4px; }
p { margin: 0 0 8px; max-width: 100ch; overflow-wrap: anywhere; }
section { margin-top: 32px; }
a { color: var(--mark); }
nav { margin-top: 12px; display: flex; flex-wrap: wrap; gap: 4px 16px; }
.facts, figcaption, dt { color: var(--soft); }
.headline { font-size: 1.1rem; }
.warning { color: var(--warn); font-weight: 600; }
.wide { overflow-x: auto; margin-bottom: 12px; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 12px 3px 0; text-align: left; vertical-align: baseline; white-space: nowrap; }
#made td, #errors td { white-space: normal; overflow-wrap: anywhere; }
th { border-bottom: 1px solid var(--line); color: var(--soft); font-weight: 600; white-space: normal; }
tbody tr:nth-child(even) { background: var(--band); }
.number { text-align: right; }
figure { margin: 24px 0 0; }
figcaption { font-size: 13px; max-width: 90ch; }
select { font: inherit; max-width: 100%; color: inherit; background: var(--back); border: 1px solid var(--line);
  border-radius: 4px; padding: 2px 6px; }
pre, code { font-size: 12px; white-space: pre-wrap; overflow-wrap: anywhere; }
pre { background: var(--band); padding: 8px 12px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 0 0 12px; }
dd { margin: 0; overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--mark); }
@media (max-width: 600px) { dl { grid-template-columns: 1fr; } dd { margin-bottom: 8px; } }
@page { size: A4 landscape; margin: 12mm; }
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --line: #bbb; --back: #fff; --band: #f4f4f4; }
  body { font-size: 11px; } main { max-width: none; padding: 0; } nav { display: none; }
  select { appearance: none; border: none; padding: 0; }
  table { font-size: 8.5px; } th, td { padding-right: 7px; } .wide { overflow: visible; }
  figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; } }
"""

SCRIPT: Final = """
(function () {
  const figures = JSON.parse(document.getElementById("figure-data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const shown = figures.map(() => 0);
  const paper = 960;  // pixels of a landscape page's width, between its margins
  let printing = false;
  function theme(night) {
    const line = night ? "#3d444d" : "#d0d7de", ink = night ? "#e6edf3" : "#1b1f24";
    const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, tickcolor: line, automargin: true };
    const label = { bgcolor: night ? "#161b22" : "#ffffff", bordercolor: line, font: { color: ink } };
    return { layout: { font: { color: ink, family: "system-ui, sans-serif" }, xaxis: axis, yaxis: axis,
      hoverlabel: label, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" } };
  }
  function draw(place) {
    const figure = figures[place][shown[place]];
    const size = printing ? { width: paper, autosize: false } : { autosize: true };
    const layout = Object.assign({}, figure.layout, size, { template: theme(dark.matches && !printing) });
    const config = { displaylogo: false, responsive: !printing, toImageButtonOptions: { format: "svg" } };
    // Copies, because Plotly writes what it computed into what it is given.
    const copy = (value) => JSON.parse(JSON.stringify(value));
    Plotly.newPlot("figure" + place, copy(figure.data), copy(layout), config);
  }
  function drawAll() { figures.forEach((_, place) => draw(place)); }
  document.querySelectorAll("select[data-figure]").forEach((select) => {
    const place = Number(select.dataset.figure);
    select.selectedIndex = 0;  // a browser may keep the choice of an earlier visit
    select.addEventListener("change", () => { shown[place] = select.selectedIndex; draw(place); });
  });
  dark.addEventListener("change", drawAll);
  window.addEventListener("beforeprint", () => { printing = true; drawAll(); });
  window.addEventListener("afterprint", () => { printing = false; drawAll(); });
  drawAll();
})();
"""
