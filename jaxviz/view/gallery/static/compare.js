"use strict";
/* Two layers side by side, any two: what compare.html holds as JSON, laid out as on the first page. */
(() => {
  const $ = (id) => document.getElementById(id);
  const { layers, explained } = JSON.parse($("layers").textContent);
  const byId = new Map(layers.map((layer) => [layer.id, layer]));
  const make = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };

  function panel(layer) {
    const tiles = layer.tiles.map(([page, alt, at, x, y]) => {
      const sheet = layer.sheets[at];
      const pic = make("span", { class: "pic" });
      pic.style.backgroundImage = `url("${layer.url}${sheet.url}")`;
      pic.style.backgroundSize = `${sheet.columns * 100}% ${sheet.rows * 100}%`;
      pic.style.backgroundPosition = `${x}% ${y}%`;
      return make("li", { class: "tile" }, make("a", { href: layer.url + page, "aria-label": alt, "data-move": "" }, pic));
    });
    const list = make("ul", { class: "tiles" }, ...tiles);
    list.style.setProperty("--ratio", layer.ratio);
    const name = make("h3", {}, make("a", { href: `${layer.url}index.html` }, layer.name));
    const about = [layer.model, layer.about, layer.label].filter(Boolean).join(" · ");
    return make("section", {}, name, make("p", { class: "soft small" }, about), list);
  }

  function cell(value, full) {
    if (!value) return make("td", {}, make("span", { class: "value" }, "none"));
    const bar = make("i");
    bar.style.width = `${Math.min(Math.max(100 * value[0] / full, 0), 100)}%`;
    const parts = [make("span", { class: "value" }, value[1]), make("span", { class: "bar", "aria-hidden": "true" }, bar)];
    if (value[2]) parts.push(make("span", { class: "soft small" }, value[2]));
    return make("td", {}, ...parts);
  }

  function table(a, b) {
    const heads = ["Measured", a.name, b.name].map((text) => make("th", { scope: "col" }, text));
    const rows = explained.filter(([key]) => a.rows[key] || b.rows[key]).map(([key, name, why, scale]) => {
      const values = [a.rows[key], b.rows[key]];
      const full = scale || Math.max(...values.map((value) => (value ? Math.abs(value[0]) : 0))) || 1;
      const head = make("th", { scope: "row" }, make("span", { class: "name" }, name), make("span", { class: "soft small why" }, why));
      return make("tr", {}, head, ...values.map((value) => cell(value, full)));
    });
    return [make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows)];
  }

  const unlike = (a, b) => {
    const names = [...new Set([...Object.keys(a.settings), ...Object.keys(b.settings)])];
    const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
    const differing = names.map((name) => [name.replaceAll("_", " "), text(a.settings[name]), text(b.settings[name])])
      .filter(([, left, right]) => left !== right);
    if (!differing.length) return "";
    return `They were not made alike: ${differing.map(([name, left, right]) => `${name} ${left} | ${right}`).join("; ")}.`;
  };

  const wanted = () => {
    const asked = Object.fromEntries(location.hash.slice(1).split("&").map((part) => part.split("=").map(decodeURIComponent)));
    const a = byId.has(asked.a) ? asked.a : layers[0].id;
    const others = layers.filter((layer) => layer.id !== a);
    const alike = others.filter((layer) => layer.model === byId.get(a).model);
    const far = [...others, ...alike, ...alike.filter((layer) => layer.label === byId.get(a).label)].pop().id;
    return [a, byId.has(asked.b) ? asked.b : far];
  };
  function show() {
    const [a, b] = wanted();
    $("a").value = a;
    $("b").value = b;
    $("pair").replaceChildren(panel(byId.get(a)), panel(byId.get(b)));
    $("unlike").textContent = unlike(byId.get(a), byId.get(b));
    $("measured").replaceChildren(...table(byId.get(a), byId.get(b)));
    document.dispatchEvent(new Event("moved"));
    document.title = `${byId.get(a).name} and ${byId.get(b).name}, measured`;
  }
  for (const side of ["a", "b"]) {
    $(side).addEventListener("change", () => {
      location.hash = `a=${encodeURIComponent($("a").value)}&b=${encodeURIComponent($("b").value)}`;
    });
  }
  addEventListener("hashchange", show);
  show();
})();
