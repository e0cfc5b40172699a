"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const networks = JSON.parse(document.getElementById("data").textContent).networks;
  const REACH = 26;
  const COLORS = 7;

  function element(name, content, className) {
    const node = document.createElement(name);
    if (className) node.className = className;
    for (const child of [].concat(content ?? [])) node.append(child);
    return node;
  }

  function svg(name, attributes, content) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    for (const child of [].concat(content ?? [])) node.append(child);
    return node;
  }

  function round(value) {
    return Number(value.toPrecision(4)).toLocaleString("en");
  }

  /* Return multiples of a round step between two values. */
  function ticks(low, high) {
    const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((value) => value >= rough * 0.999);
    const values = [];
    for (let i = Math.ceil(low / step); i <= high / step; i += 1) values.push(i * step);
    return values;
  }

  /* Return a line chart of series {name, points: [[x, y], ...]} with a description for screen readers. */
  function chart(series, label, description) {
    const [width, height, left, right, top, bottom] = [440, 220, 52, 12, 10, 40];
    const all = series.flatMap((line) => line.points);
    const xs = all.map((p) => p[0]), ys = all.map((p) => p[1]);
    const lowX = Math.min(...xs), highX = Math.max(...xs, lowX + 1);
    const spread = Math.max(...ys) - Math.min(...ys) || Math.abs(ys[0]) || 1;
    const lowY = Math.min(...ys) - 0.06 * spread, highY = Math.max(...ys) + 0.06 * spread;
    const x = (v) => left + (width - left - right) * (v - lowX) / (highX - lowX);
    const y = (v) => height - bottom - (height - top - bottom) * (v - lowY) / (highY - lowY);
    const plot = svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": description });
    const axis = svg("g", { class: "axis" });
    for (const v of ticks(lowY, highY)) {
      axis.append(svg("path", { class: "grid", d: `M${left} ${y(v)}H${width - right}` }));
      axis.append(svg("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, round(v)));
    }
    const steps = Math.min(5, highX - lowX);
    for (let i = 0; i <= steps; i += 1) {
      const v = Math.round(lowX + (i / steps) * (highX - lowX));
      axis.append(svg("text", { x: x(v), y: height - bottom + 17, "text-anchor": "middle" }, String(v)));
    }
    axis.append(svg("path", { class: "rule", d: `M${left} ${top}V${height - bottom}H${width - right}` }));
    axis.append(svg("text", { class: "name", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, `Epoch · ${label}`));
    plot.append(axis);
    series.forEach((line, i) => {
      const color = `s${i % COLORS}`;
      const path = line.points.map(([a, b], n) => `${n ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
      const last = line.points[line.points.length - 1];
      plot.append(svg("path", { class: `curve ${color}`, d: path }));
      plot.append(svg("circle", { class: `end ${color}`, cx: x(last[0]), cy: y(last[1]), r: 2.8 }));
    });
    const key = element("ul", series.map((line, i) => element("li", [
      svg("svg", { viewBox: "0 0 14 10", "aria-hidden": "true" }, svg("path", { class: `curve s${i % COLORS}`, d: "M0 5H14" })),
      line.name,
    ])), "key");
    return element("div", [plot, key]);
  }

  function table(name, heads, rows, numbers) {
    const kind = (content, i) => (numbers.includes(i) ? "n" : String(content).length > 48 ? "long" : "");
    const cell = (tag, content, i) => element(tag, content, kind(content, i));
    const node = element("table", [
      element("caption", name),
      element("thead", element("tr", heads.map((head, i) => cell("th", head, i)))),
      element("tbody", rows.map((row) => element("tr", row.map((item, i) => cell(i ? "td" : "th", item, i))))),
    ]);
    node.querySelectorAll("thead th").forEach((head) => { head.scope = "col"; });
    node.querySelectorAll("tbody th").forEach((head) => { head.scope = "row"; });
    const region = element("div", node, "scroll");
    region.tabIndex = 0;
    region.setAttribute("role", "region");
    region.setAttribute("aria-label", `Table: ${name}`);
    return region;
  }

  /* Return the parts of a block as one bar over its channels. */
  function split(parts, width) {
    const operations = ["conv", "identity", "channel", "self", "pool"];
    const description = parts.map(([op, n]) => `${op} ${n} of ${width}`).join(", ");
    let at = 0;
    const bars = parts.map(([op, n]) => {
      const bar = svg("rect", { class: `op-${operations.includes(op) ? op : "other"}`, x: at, y: 0, width: 144 * n / width, height: 12 });
      at += 144 * n / width;
      return bar;
    });
    return svg("svg", { class: "split", viewBox: "0 0 144 12", preserveAspectRatio: "none", role: "img", "aria-label": description }, bars);
  }

  function blocks(rows) {
    const describeParts = (row) => (row.parts ?? []).map(([op, n, learned]) => `${op} ${learned ? "~" : ""}${n}`).join(" + ") + (row.pat_sp ? " · pat_sp" : "");
    return table("Blocks", ["Block", "Map", "Channels", "Parts", "Share of channels", "Parameters", "MACs"], rows.map((row) => [
      row.name, row.map, String(row.width), describeParts(row), row.parts ? split(row.parts, row.width) : "",
      row.params.toLocaleString("en"), row.macs.toLocaleString("en"),
    ]), [2, 5, 6]);
  }

  function facts(rows) {
    return element("dl", rows.map(([name, text]) => element("div", [element("dt", name), element("dd", text)])), "facts");
  }

  function ratios(data) {
    const percent = (value) => (value === null ? "" : `${(100 * value).toFixed(1)} %`);
    const nodes = [];
    const lines = data.series.filter((line) => line.points.length > 1);
    if (lines.length) {
      nodes.push(element("h4", `Ratios over epochs, seed ${data.seed}`));
      nodes.push(chart(lines.slice(0, 12), "ratio", `Learned ratios over epochs, seed ${data.seed}`));
    }
    nodes.push(table("Final ratios", ["Boundary", ...data.seeds.map((seed) => `seed ${seed}`)],
      data.ends.map(([name, ...ends]) => [name, ...ends.map(percent)]), data.seeds.map((_, i) => i + 1)));
    return element("div", nodes);
  }

  function describe(network, close) {
    const button = element("button", "Close");
    button.type = "button";
    button.addEventListener("click", close);
    const nodes = [element("header", [element("h3", network.label), button])];
    const summary = [network.name, network.network].filter(Boolean).join(" · ");
    if (summary) nodes.push(element("p", summary, "summary"));
    const columns = [element("div", facts([...network.values, ...network.facts]))];
    const curves = (network.curves.series ?? []).filter((curve) => curve.points.length);
    if (curves.length) {
      const series = curves.map((curve) => ({ name: `seed ${curve.seed}`, points: curve.points }));
      const ends = series.map((line) => `${line.name} ends at ${round(line.points[line.points.length - 1][1])}`);
      columns.push(element("div", [
        element("h4", `Learning curve: ${network.curves.label}`),
        chart(series, network.curves.label, `Learning curve of ${network.curves.label}: ${ends.join(", ")}`),
      ]));
    }
    nodes.push(element("div", columns, "twin"));
    if (network.blocks.length) nodes.push(blocks(network.blocks));
    if (network.ratios.ends) nodes.push(ratios(network.ratios));
    nodes.push(table("Trials", ["Trial", "Seed", "State", "Value or reason"], network.trials, [1]));
    if (network.more) nodes.push(element("p", `${network.more} more trials`, "note"));
    return nodes;
  }

  function explore(explorer) {
    const figure = explorer.querySelector("figure");
    const tip = explorer.querySelector(".tip");
    const panel = explorer.querySelector(".panel");
    const marks = [...explorer.querySelectorAll(".point[data-id]")];
    let opener = null;

    function visiblePlot() {
      return [...explorer.querySelectorAll("svg.front")].find((plot) => plot.getBoundingClientRect().width);
    }

    function order(plot) {
      const inPlot = marks.filter((mark) => mark.ownerSVGElement === plot);
      const main = inPlot.filter((mark) => !mark.classList.contains("other"));
      return [...main, ...inPlot.filter((mark) => mark.classList.contains("other")).reverse()];
    }

    function show(mark) {
      const network = networks[mark.dataset.id];
      marks.forEach((other) => other.classList.toggle("on", other === mark));
      tip.replaceChildren(element("b", network.label),
        ...network.values.map(([name, text]) => element("span", `${name}: ${text}`)),
        ...(network.network ? [element("span", network.network)] : []));
      tip.hidden = false;
      const box = figure.getBoundingClientRect(), at = mark.getBoundingClientRect();
      const x = at.left + at.width / 2 - box.left, y = at.top + at.height / 2 - box.top;
      tip.style.left = "0px";
      const above = y - tip.offsetHeight - 14;
      tip.style.left = `${Math.max(0, Math.min(x + 14, box.width - tip.offsetWidth))}px`;
      tip.style.top = `${above > 0 ? above : y + 14}px`;
    }

    function hide() {
      tip.hidden = true;
      marks.forEach((mark) => mark.classList.remove("on"));
    }

    function close() {
      panel.hidden = true;
      marks.forEach((mark) => mark.classList.remove("chosen"));
      setHash("");
      if (opener && opener.isConnected) opener.focus();
    }

    function open(id, origin) {
      opener = origin;
      panel.replaceChildren(...describe(networks[id], close));
      panel.setAttribute("aria-label", `Network ${networks[id].label}`);
      panel.hidden = false;
      marks.forEach((mark) => mark.classList.toggle("chosen", mark.dataset.id === id));
      setHash(id);
    }

    function choose(id, origin) {
      open(id, origin);
      panel.focus({ preventScroll: true });
      panel.scrollIntoView({ block: "nearest" });
    }

    function nearest(event) {
      const plot = visiblePlot();
      let best = null, reach = REACH;
      for (const mark of order(plot)) {
        const at = mark.getBoundingClientRect();
        const distance = Math.hypot(at.left + at.width / 2 - event.clientX, at.top + at.height / 2 - event.clientY);
        const penalized = mark.classList.contains("other") ? distance + 4 : distance;
        if (penalized < reach) [best, reach] = [mark, penalized];
      }
      return best;
    }

    function step(mark, key) {
      const all = order(mark.ownerSVGElement), at = all.indexOf(mark);
      const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[key];
      if (to === undefined) return false;
      const next = all[Math.max(0, Math.min(all.length - 1, to))];
      mark.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
      return true;
    }

    for (const plot of explorer.querySelectorAll("svg.front")) {
      plot.classList.add("live");
      order(plot).forEach((mark, i) => {
        const network = networks[mark.dataset.id];
        const title = mark.querySelector("title");
        mark.setAttribute("role", "button");
        mark.setAttribute("aria-label", title ? title.textContent
          : `${network.label}, dominated: ${network.values.map((pair) => pair.join(" ")).join(", ")}`);
        if (title) title.remove();
        mark.tabIndex = i ? -1 : 0;
        mark.addEventListener("focus", () => show(mark));
        mark.addEventListener("blur", hide);
        mark.addEventListener("keydown", (event) => {
          if (event.key === "Enter" || event.key === " ") choose(mark.dataset.id, mark);
          else if (event.key === "Escape") hide();
          else if (!step(mark, event.key)) return;
          event.preventDefault();
        });
      });
      plot.addEventListener("pointermove", (event) => {
        const mark = nearest(event);
        if (mark) show(mark);
        else hide();
      });
      plot.addEventListener("pointerleave", hide);
      plot.addEventListener("click", (event) => {
        const mark = nearest(event);
        if (mark) choose(mark.dataset.id, mark);
      });
    }
    panel.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
    });
    linkRows(explorer, choose);
    const hash = decodeURIComponent(location.hash.slice(1));
    if (hash.startsWith("network-") && marks.some((mark) => mark.dataset.id === hash.slice(8))) {
      open(hash.slice(8), null);
    }
  }

  /* Make the names in the table open the same panel. */
  function linkRows(explorer, choose) {
    const rows = document.querySelectorAll(`#${explorer.dataset.view}-table tbody tr`);
    const main = [...explorer.querySelectorAll("svg.front.wide .point[data-id]")].map((mark) => mark.dataset.id);
    const byLabel = new Map(main.filter((id) => networks[id].kind !== "other").map((id) => [networks[id].label, id]));
    for (const row of rows) {
      const name = row.cells[0], id = byLabel.get(name.textContent);
      if (id === undefined) continue;
      const button = element("button", name.textContent, "link");
      button.type = "button";
      button.addEventListener("click", () => choose(id, button));
      name.replaceChildren(button);
    }
  }

  function setHash(id) {
    try {
      history.replaceState(null, "", id ? `#network-${encodeURIComponent(id)}` : location.pathname + location.search);
    } catch (error) { /* browsers may forbid this for pages from disk; nothing depends on it */ }
  }

  document.querySelectorAll(".explorer").forEach(explore);
})();
