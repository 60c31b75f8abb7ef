// Tables that are sorted by a column when its head is pressed, and in reverse when it is pressed again. Empty cells stay at the end.
"use strict";
(function () {
  function value(row, column) {
    const cell = row.cells[column];
    const raw = cell.dataset.value;
    return raw === undefined || raw === "" ? null : cell.classList.contains("num") ? Number(raw) : raw;
  }

  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
  }

  function sort(table, head, column) {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort((a, b) => compare(value(a, column), value(b, column), sign)));
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => sort(table, head, column));
    });
  }
})();
