"use strict";
// The page is whole without this: it only puts buttons into the headings of tables, which sort, sort the other way, and restore.
const collator = new Intl.Collator("en", { numeric: true });
const turns = { none: "ascending", ascending: "descending", descending: "none" };

function key(row, column) {
  const cell = row.cells[column];
  const text = cell.textContent.trim();
  return { missing: text === "" ? !cell.dataset.v : text === "\u2013", number: cell.dataset.v === undefined ? NaN : Number(cell.dataset.v), text };
}

function compare(a, b) {
  return Number.isNaN(a.number) || Number.isNaN(b.number) ? collator.compare(a.text, b.text) : a.number - b.number;
}

function arranged(rows, column, turn) {
  if (turn === "none") return rows;
  const sign = turn === "ascending" ? 1 : -1;
  const keyed = rows.map((row) => [key(row, column), row]);
  // What was not measured stays last whichever way.
  keyed.sort(([a], [b]) => a.missing - b.missing || (a.missing ? 0 : sign * compare(a, b)));
  return keyed.map(([, row]) => row);
}

for (const table of document.querySelectorAll("table:not([data-fixed])")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  if (rows.length < 2) continue;
  table.classList.add("sortable");
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const turn = turns[head.getAttribute("aria-sort") ?? "none"];
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      if (turn !== "none") head.setAttribute("aria-sort", turn);
      body.append(...arranged(rows, column, turn));
    });
  });
}
