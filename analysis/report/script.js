"use strict";
// Sorting, filtering, copying, tips and the theme. The page says everything without this script.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, text, more = {}) => Object.assign(document.createElement(tag), { textContent: text }, more);
  const button = (text, act, label) => {
    const made = make("button", text, { type: "button", className: "act" });
    if (label) made.setAttribute("aria-label", label);
    made.addEventListener("click", () => act(made));
    return made;
  };
  const say = (made, word) => {
    const before = made.dataset.word ??= made.textContent;
    made.textContent = word;
    setTimeout(() => { made.textContent = before; }, 1500);
  };
  const copied = async (text) => {
    try { await navigator.clipboard.writeText(text); return true; } catch { /* an old browser, or not allowed: the old way */ }
    const area = make("textarea", "", { value: text, className: "sr" });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  const copy = async (made, text) => say(made, (await copied(text)) ? "copied" : "not allowed");

  // Tables. A cell's full number is in data-v; "" there means that the text is the number.
  const value = (cell) => {
    if (cell.dataset.v === undefined) return cell.textContent.trim();
    return cell.dataset.v || cell.textContent.replaceAll(",", "");
  };
  const full = (cell) => (value(cell) === "nan" ? "" : value(cell));
  const safe = (text, cell) => (cell.dataset.v === undefined && /^[=+\-@\t\r]/.test(text) ? "'" + text : text);
  const quoted = (text) => (/[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text);
  const rowsOf = (table) => [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => [...row.cells]);
  const names = (table) => [...table.tHead.rows[0].cells].map((cell) => cell.dataset.c);
  const order = (x, y) => {
    const m = Number(x), n = Number(y);
    if (x === "nan" || y === "nan") return (x === "nan") - (y === "nan");
    return x !== "" && y !== "" && !Number.isNaN(m) && !Number.isNaN(n) ? m - n : x.localeCompare(y);
  };
  const sort = (table, head) => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keyed = [...table.tBodies[0].rows].map((row) => [value(row.cells[head.cellIndex]), row]);
    // What is not known stays last in both directions.
    keyed.sort(([x], [y]) => (down && x !== "nan" && y !== "nan" ? -order(x, y) : order(x, y)));
    table.tBodies[0].append(...keyed.map(([, row]) => row));
  };
  const equip = (box) => {
    if (box.dataset.ready) return;
    box.dataset.ready = "yes";
    const table = box.querySelector("table"), rows = [...table.tBodies[0].rows], label = box.getAttribute("aria-label");
    const tools = make("div", "", { className: "tools" });
    if (rows.length > 7) {
      const filter = make("input", "", { type: "search", placeholder: "filter rows" });
      const count = make("span", `${rows.length} rows`);
      count.setAttribute("role", "status");
      filter.setAttribute("aria-label", "filter rows of " + label);
      filter.addEventListener("input", () => {
        const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
        let n = 0;
        for (const row of rows) {
          const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
          row.hidden = !words.every((word) => text.includes(word));
          n += !row.hidden;
        }
        count.textContent = n === rows.length ? `${n} rows` : `${n} of ${rows.length} rows`;
      });
      tools.append(filter, count);
    }
    tools.append(button("copy", (made) => copy(made, [names(table).join("\t"),
      ...rowsOf(table).map((cells) => cells.map((cell) => safe(full(cell), cell).replace(/\s+/g, " ")).join("\t"))].join("\n")), "copy " + label));
    tools.append(button("csv", () => {
      const lines = [names(table), ...rowsOf(table).map((cells) => cells.map((cell) => safe(full(cell), cell)))];
      const file = new Blob([lines.map((line) => line.map(quoted).join(",")).join("\r\n") + "\r\n"], { type: "text/csv" });
      const link = make("a", "", { href: URL.createObjectURL(file), download: box.dataset.table + ".csv" });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    }, "save as csv: " + label));
    box.before(tools);
    if (rows.length < 2) return;
    for (const head of table.tHead.rows[0].cells) {
      const inside = make("button", "", { type: "button", title: "sort by " + head.dataset.c });
      inside.append(...head.childNodes);
      inside.addEventListener("click", () => sort(table, head));
      head.append(inside);
    }
  };
  // A folded table gets its tools when it is first shown: a page of hundreds opens at once.
  const shown = (box) => !box.parentElement.closest("details:not([open])");
  const equipAll = (root) => all("[data-table]", root).filter(shown).forEach(equip);
  document.addEventListener("toggle", (event) => { if (event.target.open) equipAll(event.target); }, true);
  equipAll(document);

  // Tips: by pointer, by tap, and by arrow keys from a figure or the matrix.
  const tip = document.getElementById("tip");
  let at = null, top = 0;
  const hide = () => { tip.style.visibility = "hidden"; at?.classList.remove("at"); at = null; };
  const show = (mark) => {
    if (mark === at) return;
    hide();
    at = mark;
    mark.classList.add("at");
    tip.textContent = mark.dataset.tip;
    const place = mark.getBoundingClientRect(), size = tip.getBoundingClientRect(), wide = document.documentElement.clientWidth;
    const left = Math.max(8, Math.min(place.left + place.width / 2 - size.width / 2, wide - size.width - 8));
    const above = place.top - size.height - 8;
    top = place.top;
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${(above > 0 ? above : place.bottom + 8) + scrollY}px`;
    tip.style.visibility = "visible";
  };
  // What a mark says is in its title, which needs no script; with it, the title would show a second time.
  for (const title of all("svg title")) { title.parentNode.dataset.tip = title.textContent; title.remove(); }
  for (const mark of all("[data-marks] .mark")) mark.dataset.tip = mark.querySelector(".sr").textContent;
  // Moves alone count: a page that scrolls under a still pointer must not take the tip from who steps by keys.
  document.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") return;
    const mark = event.target.closest?.("[data-tip]");
    if (mark) show(mark); else hide();
  });
  document.addEventListener("click", (event) => { const mark = event.target.closest?.("[data-tip]"); if (mark) show(mark); else hide(); });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const owner = document.activeElement;
    if (!step || !owner.matches("svg.figure, [data-marks]")) return;
    const marks = all("[data-tip]", owner);
    if (!marks.length) return;
    event.preventDefault();
    const next = marks[(marks.indexOf(at) + step + marks.length) % marks.length];
    next.scrollIntoView({ block: "nearest", inline: "nearest" });
    show(next);
  });
  document.addEventListener("focusout", hide);
  // The event comes a frame after the scroll: one from before the tip was shown has not moved its mark.
  const moved = () => Math.abs(at.getBoundingClientRect().top - top) > 1;
  addEventListener("scroll", () => { if (at && moved() && !at.matches("svg.figure:focus *, [data-marks]:focus *")) hide(); }, { passive: true });
  for (const drawn of all("svg.figure")) {
    drawn.tabIndex = 0;
    drawn.setAttribute("aria-description", "Arrow keys step through its marks.");
  }

  // The bar on top.
  const root = document.documentElement, tools = document.getElementById("tools");
  const dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const theme = button("", () => { root.dataset.theme = dark() ? "light" : "dark"; named(); });
  const named = () => { theme.textContent = dark() ? "light page" : "dark page"; };
  named();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", named);
  const folds = () => all("details").filter((fold) => fold.open).length < all("details").length;
  const every = button("open every fold", () => {
    const open = folds();
    all("details").forEach((fold) => { fold.open = open; });
    every.textContent = open ? "close every fold" : "open every fold";
  });
  tools.append(every, button("print", () => print()), theme);
  tools.hidden = false;
  for (const line of all(".line")) {
    line.classList.add("can");
    const text = line.textContent;
    line.append(button("copy", (made) => copy(made, text), "copy this line"));
  }

  // A link into a fold opens it; on paper every fold is open, and closed again after.
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    const own = target.parentElement.matches("summary") && target.closest("details");
    if (own) own.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();
  let closed = [];
  addEventListener("beforeprint", () => { closed = all("details:not([open])"); closed.forEach((fold) => { fold.open = true; }); });
  addEventListener("afterprint", () => { closed.forEach((fold) => { fold.open = false; }); closed = []; });
})();
