// Saves a chart as it stands on the page, with a title and the page's background, at the press of a button under it.
if (!window.savesCharts) {
  window.savesCharts = true;
  const TITLE_ROOM = 44, LEAST_WIDTH = 700;
  // The sign is spelled out, as a sanitizer drops scripts that seem to hold tags.
  const escape = (text) => text.replace(/&/g, "&amp;").replace(/\u003c/g, "&lt;");

  const describe = (chart, title) => {
    const layout = structuredClone(chart.layout), { width, height, _size: margin } = chart._fullLayout;
    const style = getComputedStyle(document.querySelector(".stApp"));
    // A player's knobs do nothing in a picture.
    delete layout.sliders;
    delete layout.updatemenus;
    layout.font = { ...layout.font, family: "Arial, Helvetica, sans-serif" };
    layout.paper_bgcolor = style.backgroundColor;
    layout.margin = { l: margin.l, r: margin.r, b: margin.b, t: margin.t + TITLE_ROOM };
    layout.title = {
      text: escape(title), x: 0, xref: "container", xanchor: "left", y: 1, yref: "container", yanchor: "top",
      pad: { l: 12, t: 14 }, font: { size: 17, color: style.color },
    };
    return [{ data: structuredClone(chart.data), layout }, Math.max(width, LEAST_WIDTH), height + TITLE_ROOM];
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-picture]");
    if (!button) return;
    const chart = button.closest('[class*="st-key-chart_"]').querySelector(".js-plotly-plot");
    const [figure, width, height] = describe(chart, button.dataset.title);
    const format = button.dataset.picture, scale = format === "png" ? 3 : 1;
    // Plotly's own download takes its file back at once, before a busy browser has saved it.
    window.Plotly.toImage(figure, { format, width, height, scale }).then((picture) => {
      const link = document.createElement("a");
      link.href = picture;
      link.download = `${button.dataset.filename}.${format}`;
      link.click();
    });
  });
}
