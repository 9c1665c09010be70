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

  // Theme: auto follows the system.
  const themes = ["auto", "light", "dark"];
  const button = document.getElementById("theme");
  const stored = { get: () => { try { return localStorage.getItem("hftl-theme"); } catch { return null; } },
                   set: (value) => { try { localStorage.setItem("hftl-theme", value); } catch { /* not kept */ } } };
  const setTheme = (theme) => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    button.querySelector("span").textContent = theme;
    button.dataset.value = theme;
  };
  setTheme(themes.includes(stored.get()) ? stored.get() : "auto");
  button.hidden = false;
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(button.dataset.value) + 1) % themes.length];
    setTheme(next);
    stored.set(next);
  });

  // The rows behind a cell of the confusion matrix.
  const panel = document.getElementById("rows");
  const sure = (p) => (p === null ? "" : `${(100 * p).toFixed(1)}% sure, `);
  const content = (row) => {
    if (row.image) {
      const image = make("img", row.tiny ? "tiny" : "");
      image.src = row.image;
      image.alt = `${row.width} x ${row.height} pixels`;
      return make("span", "thumb", image);
    }
    const text = make("p", row.text === undefined ? "small" : "text", row.text ?? `cannot be read: ${row.unreadable}`);
    text.dir = "auto";
    return text;
  };
  const line = (row) => {
    const cut = row.length ? `, cut from ${row.length.toLocaleString("en")} characters` : "";
    return make("li", "", content(row), make("p", "small", `${sure(row.p)}test row ${row.row}${cut}`));
  };
  const show = (cell) => {
    const [truth, answer] = cell.split(",");
    const rows = data.cells[cell] || [];
    const total = data.totals[cell];
    const right = truth === answer;
    const heading = right
      ? make("h3", "", "Rightly answered ", name(answer))
      : make("h3", "", "True ", name(truth), ", answered ", name(answer));
    const order = right ? "the least sure first" : "the most sure first";
    const all = `${total} ${total === 1 ? "row" : "rows"}`;
    const count = rows.length < total ? `${rows.length} of ${all} are kept in this page` : all;
    const list = make("ul", rows.some((row) => row.image) ? "pictures" : "", ...rows.map(line));
    list.tabIndex = 0;
    panel.replaceChildren(heading, make("p", "small", total > 1 ? `${count}, ${order}` : count), list);
    panel.hidden = false;
    for (const one of document.querySelectorAll("[data-cell]")) {
      one.setAttribute("aria-pressed", String(one.dataset.cell === cell));
    }
  };
  const matrix = document.getElementById("matrix");
  const buttons = (row) => [...row.cells].slice(1).map((cell) => cell.querySelector("button"));
  const grid = [...matrix.tBodies[0].rows].map(buttons);
  const focusable = (target) => {
    for (const one of matrix.querySelectorAll("button")) one.tabIndex = one === target ? 0 : -1;
  };
  const start = matrix.querySelector(`[data-cell="${data.first}"]`) || matrix.querySelector("button");
  if (start) focusable(start);
  if (data.first) show(data.first);
  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-cell]");
    if (!target) return;
    if (matrix.contains(target)) focusable(target);
    show(target.dataset.cell);
    panel.scrollIntoView({ block: "nearest" });
  });
  matrix.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const at = event.target.closest("button");
    if (!step || !at) return;
    event.preventDefault();
    let row = grid.findIndex((cells) => cells.includes(at));
    let column = grid[row].indexOf(at);
    for (;;) {  // over empty cells, to the next number in that direction
      row += step[0];
      column += step[1];
      if (!grid[row] || grid[row][column] === undefined) return;
      if (grid[row][column]) break;
    }
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
      const value = (row) => row.cells[column].dataset.value;
      const compare = (a, b) => (value(a) === undefined
        ? a.cells[column].textContent.localeCompare(b.cells[column].textContent, "en", { numeric: true })
        : Number(value(a)) - Number(value(b)));
      const rows = [...table.tBodies[0].rows].sort((a, b) => (down ? compare(b, a) : compare(a, b)));
      table.tBodies[0].append(...rows);
    }));
  }

  // Tooltips of the charts: what each mark says to a screen reader, for who points at it.
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
  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  // Which section is being read.
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting || !links.has(entry.target.id)) continue;
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(entry.target.id).setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  document.querySelectorAll("main > section").forEach((section) => seen.observe(section));

  const copy = document.getElementById("copy");
  if (navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(document.getElementById("command").textContent);
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "Not allowed";
      }
    });
  }
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
})();
