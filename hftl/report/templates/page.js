"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;

  // Text is only ever set as text: nothing of the data is parsed as HTML.
  const make = (tag, className, ...content) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...content);
    return element;
  };
  const name = (id) => make("bdi", "", data.labels[id]);

  // Theme: auto follows the system. Storage may be refused: then the choice is not kept.
  const button = document.getElementById("theme");
  const setTheme = (theme) => {
    root.dataset.theme = button.querySelector("span").textContent = theme;
    try { localStorage.setItem("hftl-theme", theme); } catch { /* not kept */ }
  };
  const next = { auto: "light", light: "dark", dark: "auto" };
  let stored = null;
  try { stored = localStorage.getItem("hftl-theme"); } catch { /* not kept */ }
  setTheme(stored in next ? stored : "auto");
  button.hidden = false;
  button.addEventListener("click", () => setTheme(next[root.dataset.theme]));

  // The rows behind a cell of the confusion matrix.
  const panel = document.getElementById("rows");
  const sure = (p) => (p === null ? "" : `${(100 * p).toFixed(1)}% sure, `);
  const content = (row) => {
    if (row.image) {
      const image = make("img", row.tiny ? "tiny" : "");
      Object.assign(image, { src: row.image, alt: `${row.width} x ${row.height} pixels` });
      return make("span", "thumb", image);
    }
    const text = make("p", "text", row.text ?? `cannot be read: ${row.unreadable}`);
    text.dir = "auto";
    return text;
  };
  const line = (row, truth, answer) => {
    const said = row.image ? [make("p", "verdict-line", make("span", truth === answer ? "tag" : "tag bad", "predicted ", name(answer)),
      make("span", "tag", "true ", name(truth)))] : [];
    const cut = row.length ? `, cut from ${row.length.toLocaleString("en")} characters` : "";
    return make("li", "", content(row), ...said, make("p", "small", `${sure(row.p)}test row ${row.row}${cut}`));
  };
  const show = (cell) => {
    const [truth, answer] = cell.split(",");
    const rows = data.cells[cell] || [];
    const total = data.totals[cell];
    const [order, ...words] = truth === answer
      ? ["the least sure first", "Rightly predicted "] : ["the most sure first", "True ", name(truth), ", predicted "];
    const all = `${total} ${total === 1 ? "row" : "rows"}`;
    const count = rows.length < total ? `${rows.length} of ${all} are kept in this page` : all;
    const list = make("ul", rows.some((row) => row.image) ? "pictures" : "", ...rows.map((row) => line(row, truth, answer)));
    list.tabIndex = 0;
    const note = make("p", "small", total > 1 ? `${count}, ${order}` : count);
    panel.replaceChildren(make("h3", "", ...words, name(answer)), note, list);
    panel.hidden = false;
    for (const one of document.querySelectorAll("[data-cell]")) {
      one.setAttribute("aria-pressed", one.dataset.cell === cell);
    }
  };
  const matrix = document.getElementById("matrix");  // there is none where rows have no class
  const grid = [...(matrix ? matrix.tBodies[0].rows : [])].map((row) => [...row.cells].slice(1).map((td) => td.querySelector("button")));
  const focusable = (target) => {
    for (const one of matrix.querySelectorAll("button")) one.tabIndex = one === target ? 0 : -1;
  };
  if (data.first) {
    focusable(matrix.querySelector(`[data-cell="${data.first}"]`) || matrix.querySelector("button"));
    show(data.first);
  }
  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-cell]");
    if (!target) return;
    if (matrix?.contains(target)) focusable(target);
    show(target.dataset.cell);
    panel.scrollIntoView({ block: "nearest" });
  });
  matrix?.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const at = event.target.closest("button");
    if (!step || !at) return;
    event.preventDefault();
    let row = grid.findIndex((cells) => cells.includes(at));
    let column = grid[row].indexOf(at);
    do {  // over empty cells, to the next number in that direction
      row += step[0];
      column += step[1];
      if (grid[row]?.[column] === undefined) return;
    } while (!grid[row][column]);
    focusable(grid[row][column]);
    grid[row][column].focus();
  });

  // Tables that sort by a click on a heading.
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const compare = (a, b) => value(a) - value(b) || value(a).localeCompare(value(b), "en", { numeric: true });
      const rows = [...table.tBodies[0].rows].sort((a, b) => (down ? compare(b, a) : compare(a, b)));
      table.tBodies[0].append(...rows);
    }));
  }

  // How much of an image is seen through what lies over it.
  const opacity = document.getElementById("opacity");
  if (opacity) {
    opacity.parentElement.hidden = false;
    const set = () => { opacity.closest("section").style.setProperty("--opacity", opacity.value / 100); };
    opacity.addEventListener("input", set);
    set();
  }

  // Tooltips of the charts: what each mark says to a screen reader, for people who point at it.
  const tip = document.getElementById("tip");
  const described = ":is([aria-roledescription='point'], [aria-roledescription='rule mark'])[aria-label]";
  const point = (event) => {
    const mark = event.target.closest?.(described);
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.getAttribute("aria-label");
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${Math.max(8, event.clientY - box.height - 12)}px`;
  };
  for (const kind of ["pointermove", "pointerdown", "scroll"]) document.addEventListener(kind, point);

  for (const copy of document.querySelectorAll(".copy")) {
    copy.hidden = !navigator.clipboard;
    copy.addEventListener("click", () => navigator.clipboard.writeText(copy.previousElementSibling.textContent)
      .then(() => { copy.textContent = "Copied"; }, () => { copy.textContent = "Not allowed"; }));
  }

  // A chart as a picture, in the colours of the page as it is shown: to the clipboard, else as a file.
  const colour = (value) => {
    tip.style.backgroundColor = value;
    return getComputedStyle(tip).backgroundColor;
  };
  const picture = async (svg, title) => {
    const [width, height, edge, above] = [svg.width.baseVal.value, svg.height.baseVal.value, 20, 44];
    const text = new XMLSerializer().serializeToString(svg).replace(/var\(--\w+\)/g, colour);
    const image = Object.assign(new Image(), { src: `data:image/svg+xml,${encodeURIComponent(text)}` });
    await image.decode();
    const canvas = make("canvas");
    Object.assign(canvas, { width: 2 * (width + 2 * edge), height: 2 * (height + above + edge) });
    const context = canvas.getContext("2d");
    context.scale(2, 2);
    context.fillStyle = colour("var(--card)");
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, edge, above, width, height);
    context.fillStyle = colour("var(--ink)");
    context.font = "600 15px sans-serif";
    context.fillText(title, edge, 28, width);
    tip.style.backgroundColor = "";
    return new Promise((done) => { canvas.toBlob(done); });
  };
  for (const wide of document.querySelectorAll(".chart.wide")) {
    const both = [wide, wide.nextElementSibling];
    const share = make("button", "plain picture", "Copy as picture");
    share.addEventListener("click", async () => {
      const title = `${wide.closest("section").querySelector("h2").textContent}  ${document.querySelector("h1").textContent}`;
      const made = picture((both.find((one) => one.offsetParent) || wide).querySelector("svg"), title);
      try {
        await navigator.clipboard.write([new ClipboardItem({ "image/png": made })]);
        share.textContent = "Copied";
      } catch {  // not allowed, or no clipboard: a file instead
        Object.assign(make("a"), { href: URL.createObjectURL(await made), download: "chart.png" }).click();
        share.textContent = "Saved";
      }
    });
    both[1].after(share);
  }

  // What is folded up opens for a link to it, and for paper.
  const reveal = () => {
    const folded = document.getElementById(location.hash.slice(1))?.querySelector(":scope > details");
    if (folded) folded.open = true;
  };
  addEventListener("hashchange", reveal);
  reveal();
  const paper = document.getElementById("print");
  paper.hidden = false;
  paper.addEventListener("click", () => print());
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
})();
