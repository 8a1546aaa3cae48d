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
