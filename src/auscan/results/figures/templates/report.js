// Sort the table by the column of the selected button; a second selection reverses the order.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const header = button.closest("th"), table = header.closest("table"), column = header.cellIndex;
    const up = header.getAttribute("aria-sort") !== "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => row.cells[column].textContent.trim();
    const compare = (a, b) => {
      const [x, y] = [parseFloat(value(a)), parseFloat(value(b))];
      if (isNaN(x) && isNaN(y)) return value(a).localeCompare(value(b));
      return isNaN(x) ? 1 : isNaN(y) ? -1 : x - y;
    };
    const rows = [...table.tBodies[0].rows].sort((a, b) => (up ? compare(a, b) : compare(b, a)));
    table.tBodies[0].append(...rows);
    const message = `Sorted by ${button.textContent}, ${up ? "ascending" : "descending"}.`;
    document.getElementById("sorted").textContent = message;
  });
}

// Plots do not adapt to the paper width by themselves.
const PAPER_PX = 680;
const plots = () => document.querySelectorAll(".plotly-graph-div");
addEventListener("beforeprint", () => plots().forEach((plot) => Plotly.relayout(plot, { width: PAPER_PX })));
addEventListener("afterprint", () =>
  plots().forEach((plot) => Plotly.relayout(plot, { width: null, autosize: true }))
);
