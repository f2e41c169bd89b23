"use strict";
/* Every page works without this file; it adds sorting, filtering, keys, the theme and copying. No requests. */
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const page = document.body.dataset;

  const stored = {
    get(key) { try { return localStorage.getItem("jaxviz-" + key); } catch { return null; } },
    set(key, value) { try { localStorage.setItem("jaxviz-" + key, value); } catch { /* private window */ } },
  };

  let toast;
  function say(text) {
    if (!toast) {
      toast = document.body.appendChild(document.createElement("div"));
      toast.className = "toast";
      toast.setAttribute("role", "status");
    }
    toast.textContent = text;
    toast.hidden = false;
    clearTimeout(say.timer);
    say.timer = setTimeout(() => { toast.hidden = true; }, 2600);
  }

  /* Dark and light */
  const isDark = () => document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  function toggleTheme() {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    stored.set("theme", theme);
    nameTheme();
  }
  function nameTheme() {
    const button = $("#theme");
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
  }
  $("#theme").addEventListener("click", toggleTheme);
  nameTheme();

  /* The keys */
  const help = $("#keys");
  $("#help").addEventListener("click", () => help.showModal());

  /* Jump to a filter: which pages there are stands in the body, such as "0-63 0-3r1" */
  const jump = $("#jump");
  const exists = (index, replica) => (page.pages || "").split(" ").some((part) => {
    const match = /^(\d+)(?:-(\d+))?(?:r(\d+))?$/.exec(part);
    return match && +(match[3] || 0) === replica && +match[1] <= index && index <= +(match[2] || match[1]);
  });
  if (jump) {
    jump.addEventListener("submit", (event) => {
      event.preventDefault();
      const match = /^\s*(\d+)\s*(?:[ _]?r(\d+))?\s*$/i.exec($("input", jump).value);
      if (!match) { say("Type a filter number, such as 12"); return; }
      const [index, replica] = [+match[1], +(match[2] || 0)];
      if (!exists(index, replica)) { say(`There is no picture of filter ${match[0].trim()} here`); return; }
      location.href = String(index).padStart(4, "0") + (replica ? `_r${replica}` : "") + ".html";
    });
  }

  /* Moving through things in rows: tiles, or layers on the first page. Boxes are asked for their place, not the links
     in them: those far from the window have no layout, and asking would make one for each. */
  const linkIn = (box) => $("[data-move]", box);
  const boxes = () => $$("li:has(> [data-move])").filter((box) => box.offsetParent !== null);
  let current = null;
  const makeCurrent = (link) => {
    if (current) current.tabIndex = -1;
    current = link;
    link.tabIndex = 0;
  };
  function move(key) {
    const all = boxes();
    if (!all.length) return false;
    const at = all.indexOf(document.activeElement.closest("li"));
    if (at < 0) {
      linkIn(all.find((box) => box.contains(current)) || all[0]).focus();
      return true;
    }
    const places = all.map((box) => [box.offsetTop, box.offsetLeft]);
    const [top, left] = places[at];
    let to = at;
    if (key === "ArrowRight") to = at + 1;
    else if (key === "ArrowLeft") to = at - 1;
    else if (key === "Home") to = 0;
    else if (key === "End") to = all.length - 1;
    else {
      const step = key === "ArrowDown" ? 1 : -1;
      let row = at;
      while (places[row] && places[row][0] === top) row += step;
      if (!places[row]) return true;
      to = row;
      for (let i = row; places[i] && places[i][0] === places[row][0]; i += step) {
        if (Math.abs(places[i][1] - left) < Math.abs(places[to][1] - left)) to = i;
      }
    }
    if (all[to]) linkIn(all[to]).focus();
    return true;
  }
  const reset = () => {
    for (const link of $$("[data-move]")) link.tabIndex = -1;
    current = $("[data-move]");
    if (current) current.tabIndex = 0;
  };
  document.addEventListener("focusin", (event) => {
    if (event.target.matches("[data-move]")) makeCurrent(event.target);
  });
  document.addEventListener("moved", reset);  // compare.js has new tiles
  reset();

  const go = (link) => { if (link) location.href = link.href; };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    const field = event.target.closest("input:not([type=radio], [type=range]), select, textarea");
    if (event.key === "Escape" && field) { field.blur(); return; }
    if (field || (event.target.matches("input") && event.key.startsWith("Arrow"))) return;
    const key = event.key;
    let done = true;
    if (key === "?") help.showModal();
    else if (key === "t") toggleTheme();
    else if (key === "/") { const box = $("[data-find]"); if (box) { box.focus(); box.select(); } }
    else if (key === "Escape" || key === "u") { if (page.up) location.href = page.up; }
    else if (page.page === "filter" && key === "ArrowLeft") go($("[rel=prev]"));
    else if (page.page === "filter" && key === "ArrowRight") go($("[rel=next]"));
    else if (page.page === "filter" && key === "c") { const copy = $("[data-copy]"); if (copy) copy.click(); }
    else if (page.page === "layer" && key === "[") go($("[rel=prev]"));
    else if (page.page === "layer" && key === "]") go($("[rel=next]"));
    else if (page.page !== "filter" && /^(Arrow|Home$|End$)/.test(key)) done = move(key);
    else done = false;
    if (done) event.preventDefault();
  });

  /* Copying a command */
  for (const button of $$("[data-copy]")) {
    button.addEventListener("click", async () => {
      const text = $(button.dataset.copy).textContent;
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        const box = document.body.appendChild(document.createElement("textarea"));
        box.value = text;
        box.select();
        document.execCommand("copy");
        box.remove();
        button.focus();
      }
      say("Copied");
    });
  }

  /* A layer: sort, filter by status, size */
  const tiles = $("#tiles");
  if (tiles) {
    const items = $$(".tile", tiles);
    const number = (item, name, missing) => (item.dataset[name] === "" ? missing : +item.dataset[name]);
    const orders = {
      number: (a, b) => a.place - b.place,
      score: (a, b) => b.score - a.score || a.place - b.place,
      hue: (a, b) => a.hue - b.hue || a.place - b.place,
    };
    const rows = items.map((item, place) => ({
      item, place, status: item.dataset.status,
      score: number(item, "score", -Infinity), hue: number(item, "hue", Infinity),
    }));
    const chosen = (name) => $(`input[name=${name}]:checked`).value;
    const arrange = () => {
      const status = chosen("status");
      for (const row of rows) row.item.hidden = status !== "all" && row.status !== status;
      rows.sort(orders[chosen("sort")]);
      tiles.append(...rows.map((row) => row.item));
      const shown = rows.filter((row) => !row.item.hidden);
      $("#shown").textContent = shown.length === rows.length ? `${rows.length} shown` : `${shown.length} of ${rows.length} shown`;
      if (shown.length) makeCurrent(linkIn(shown[0].item));
    };
    for (const input of $$(".controls input[type=radio]")) {
      input.addEventListener("change", () => {
        if (input.name === "sort") try { sessionStorage.setItem("jaxviz-sort", input.value); } catch { /* none */ }
        arrange();
      });
    }
    let sort = null;
    try { sort = sessionStorage.getItem("jaxviz-sort"); } catch { /* none */ }
    if (sort in orders) $(`input[name=sort][value=${sort}]`).checked = true;
    if (chosen("sort") !== "number" || chosen("status") !== "all") arrange();

    const size = $("#size");
    const resize = () => {
      document.documentElement.style.setProperty("--tile", `${size.value}rem`);
      tiles.classList.toggle("only-pictures", +size.value < 4);
    };
    size.value = stored.get("size") || size.value;
    if (stored.get("size")) resize();
    size.addEventListener("input", () => { resize(); stored.set("size", size.value); });
  }

  /* The first page: find a layer by its name */
  const find = $("#find");
  if (find) {
    const look = () => {
      const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of $$(".row")) row.hidden = !words.every((word) => row.dataset.name.toLowerCase().includes(word));
      for (const model of $$(".model")) model.hidden = !!words.length && !$(".row:not([hidden])", model);
    };
    find.addEventListener("input", look);
    find.addEventListener("keydown", (event) => { if (event.key === "Enter") go(linkIn(boxes()[0] || document)); });
    look();
  }
})();
