"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const networks = JSON.parse(document.getElementById("data").textContent).networks;
  const REACH = 26;
  const CLASSES = 7;

  function element(name, content, className) {
    const made = document.createElement(name);
    if (className) made.className = className;
    for (const each of [].concat(content ?? [])) made.append(each);
    return made;
  }

  function drawn(name, attributes, content) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    for (const each of [].concat(content ?? [])) made.append(each);
    return made;
  }

  function round(value) {
    return Number(value.toPrecision(4)).toLocaleString("en");
  }

  /* Round values between two ends. */
  function ticks(low, high) {
    const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough * 0.999);
    const found = [];
    for (let i = Math.ceil(low / step); i <= high / step; i += 1) found.push(i * step);
    return found;
  }

  /* A line chart: series of {name, points: [[x, y], ...]}. */
  function chart(series, label, told) {
    const [width, height, left, right, top, bottom] = [440, 220, 52, 12, 10, 40];
    const all = series.flatMap((each) => each.points);
    const xs = all.map((p) => p[0]), ys = all.map((p) => p[1]);
    const lowX = Math.min(...xs), highX = Math.max(...xs, lowX + 1);
    const spread = Math.max(...ys) - Math.min(...ys) || Math.abs(ys[0]) || 1;
    const lowY = Math.min(...ys) - 0.06 * spread, highY = Math.max(...ys) + 0.06 * spread;
    const x = (v) => left + (width - left - right) * (v - lowX) / (highX - lowX);
    const y = (v) => height - bottom - (height - top - bottom) * (v - lowY) / (highY - lowY);
    const plot = drawn("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": told });
    const axis = drawn("g", { class: "axis" });
    for (const v of ticks(lowY, highY)) {
      axis.append(drawn("path", { class: "grid", d: `M${left} ${y(v)}H${width - right}` }));
      axis.append(drawn("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, round(v)));
    }
    const steps = Math.min(5, highX - lowX);
    for (let i = 0; i <= steps; i += 1) {
      const v = Math.round(lowX + (i / steps) * (highX - lowX));
      axis.append(drawn("text", { x: x(v), y: height - bottom + 17, "text-anchor": "middle" }, String(v)));
    }
    axis.append(drawn("path", { class: "rule", d: `M${left} ${top}V${height - bottom}H${width - right}` }));
    axis.append(drawn("text", { class: "name", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, `Epoch · ${label}`));
    plot.append(axis);
    series.forEach((each, i) => {
      const colour = `s${i % CLASSES}`;
      const path = each.points.map(([a, b], n) => `${n ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
      const last = each.points[each.points.length - 1];
      plot.append(drawn("path", { class: `curve ${colour}`, d: path }));
      plot.append(drawn("circle", { class: `end ${colour}`, cx: x(last[0]), cy: y(last[1]), r: 2.8 }));
    });
    const key = element("ul", series.map((each, i) => element("li", [
      drawn("svg", { viewBox: "0 0 14 10", "aria-hidden": "true" }, drawn("path", { class: `curve s${i % CLASSES}`, d: "M0 5H14" })),
      each.name,
    ])), "key");
    return element("div", [plot, key]);
  }

  function table(name, heads, rows, numbers) {
    const kind = (content, i) => (numbers.includes(i) ? "n" : String(content).length > 48 ? "long" : "");
    const cell = (tag, content, i) => element(tag, content, kind(content, i));
    const made = element("table", [
      element("caption", name),
      element("thead", element("tr", heads.map((head, i) => cell("th", head, i)))),
      element("tbody", rows.map((row) => element("tr", row.map((each, i) => cell(i ? "td" : "th", each, i))))),
    ]);
    made.querySelectorAll("thead th").forEach((head) => { head.scope = "col"; });
    made.querySelectorAll("tbody th").forEach((head) => { head.scope = "row"; });
    const region = element("div", made, "scroll");
    region.tabIndex = 0;
    region.setAttribute("role", "region");
    region.setAttribute("aria-label", `Table: ${name}`);
    return region;
  }

  /* The parts of a block as one bar over its channels. */
  function split(parts, width) {
    const known = ["conv", "identity", "channel", "self", "pool"];
    const told = parts.map(([op, n]) => `${op} ${n} of ${width}`).join(", ");
    let at = 0;
    const bars = parts.map(([op, n]) => {
      const bar = drawn("rect", { class: `op-${known.includes(op) ? op : "other"}`, x: at, y: 0, width: 144 * n / width, height: 12 });
      at += 144 * n / width;
      return bar;
    });
    return drawn("svg", { class: "split", viewBox: "0 0 144 12", preserveAspectRatio: "none", role: "img", "aria-label": told }, bars);
  }

  function blocks(rows) {
    const words = (row) => (row.parts ?? []).map(([op, n, learned]) => `${op} ${learned ? "~" : ""}${n}`).join(" + ") + (row.pat_sp ? " · pat_sp" : "");
    return table("Blocks", ["Block", "Map", "Channels", "Parts", "Share of the channels", "Parameters", "MACs"], rows.map((row) => [
      row.name, row.map, String(row.width), words(row), row.parts ? split(row.parts, row.width) : "",
      row.params.toLocaleString("en"), row.macs.toLocaleString("en"),
    ]), [2, 5, 6]);
  }

  function facts(rows) {
    return element("dl", rows.map(([name, text]) => element("div", [element("dt", name), element("dd", text)])), "facts");
  }

  function ratios(told) {
    const percent = (value) => (value === null ? "" : `${(100 * value).toFixed(1)} %`);
    const made = [];
    const moving = told.series.filter((each) => each.points.length > 1);
    if (moving.length) {
      made.push(element("h4", `Ratios over the epochs, seed ${told.seed}`));
      made.push(chart(moving.slice(0, 12), "ratio", `Learned ratios over the epochs of seed ${told.seed}`));
    }
    made.push(table("Ratios at the end", ["Boundary", ...told.seeds.map((seed) => `seed ${seed}`)],
      told.ends.map(([name, ...ends]) => [name, ...ends.map(percent)]), told.seeds.map((_, i) => i + 1)));
    return element("div", made);
  }

  function describe(network, close) {
    const shut = element("button", "Close");
    shut.type = "button";
    shut.addEventListener("click", close);
    const made = [element("header", [element("h3", network.label), shut])];
    const summary = [network.name, network.network].filter(Boolean).join(" · ");
    if (summary) made.push(element("p", summary, "summary"));
    const twin = [element("div", facts([...network.values, ...network.facts]))];
    const courses = (network.curves.series ?? []).filter((each) => each.points.length);
    if (courses.length) {
      const series = courses.map((each) => ({ name: `seed ${each.seed}`, points: each.points }));
      const ends = series.map((each) => `${each.name} ends at ${round(each.points[each.points.length - 1][1])}`);
      twin.push(element("div", [
        element("h4", `Learning curve: ${network.curves.label}`),
        chart(series, network.curves.label, `Learning curve of ${network.curves.label}: ${ends.join(", ")}`),
      ]));
    }
    made.push(element("div", twin, "twin"));
    if (network.blocks.length) made.push(blocks(network.blocks));
    if (network.ratios.ends) made.push(ratios(network.ratios));
    made.push(table("Trials", ["Trial", "Seed", "State", "Value or reason"], network.trials, [1]));
    if (network.more) made.push(element("p", `${network.more} more trials`, "note"));
    return made;
  }

  function explore(explorer) {
    const figure = explorer.querySelector("figure");
    const tip = explorer.querySelector(".tip");
    const panel = explorer.querySelector(".panel");
    const marks = [...explorer.querySelectorAll(".point[data-id]")];
    let from = null;

    function visible() {
      return [...explorer.querySelectorAll("svg.front")].find((plot) => plot.getBoundingClientRect().width);
    }

    function order(plot) {
      const own = marks.filter((mark) => mark.ownerSVGElement === plot);
      const main = own.filter((mark) => !mark.classList.contains("other"));
      return [...main, ...own.filter((mark) => mark.classList.contains("other")).reverse()];
    }

    function show(mark) {
      const network = networks[mark.dataset.id];
      marks.forEach((each) => each.classList.toggle("on", each === mark));
      tip.replaceChildren(element("b", network.label),
        ...network.values.map(([name, text]) => element("span", `${name}: ${text}`)),
        ...(network.network ? [element("span", network.network)] : []));
      tip.hidden = false;
      const box = figure.getBoundingClientRect(), at = mark.getBoundingClientRect();
      const x = at.left + at.width / 2 - box.left, y = at.top + at.height / 2 - box.top;
      tip.style.left = "0px";
      const wide = tip.offsetWidth, high = tip.offsetHeight;
      const above = y - high - 14;
      tip.style.left = `${Math.max(0, Math.min(x + 14, box.width - wide))}px`;
      tip.style.top = `${above > 0 ? above : y + 14}px`;
    }

    function hide() {
      tip.hidden = true;
      marks.forEach((each) => each.classList.remove("on"));
    }

    function close() {
      panel.hidden = true;
      marks.forEach((each) => each.classList.remove("chosen"));
      remember("");
      if (from && from.isConnected) from.focus();
    }

    function open(id, origin) {
      from = origin;
      panel.replaceChildren(...describe(networks[id], close));
      panel.setAttribute("aria-label", `Network ${networks[id].label}`);
      panel.hidden = false;
      marks.forEach((each) => each.classList.toggle("chosen", each.dataset.id === id));
      remember(id);
    }

    function choose(id, origin) {
      open(id, origin);
      panel.focus({ preventScroll: true });
      panel.scrollIntoView({ block: "nearest" });
    }

    function nearest(event) {
      const plot = visible();
      let best = null, reach = REACH;
      for (const mark of order(plot)) {
        const at = mark.getBoundingClientRect();
        const far = Math.hypot(at.left + at.width / 2 - event.clientX, at.top + at.height / 2 - event.clientY);
        const wanted = mark.classList.contains("other") ? far + 4 : far;
        if (wanted < reach) [best, reach] = [mark, wanted];
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
        const words = mark.querySelector("title");
        mark.setAttribute("role", "button");
        mark.setAttribute("aria-label", words ? words.textContent
          : `${network.label}, dominated: ${network.values.map((pair) => pair.join(" ")).join(", ")}`);
        if (words) words.remove();
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
    const asked = decodeURIComponent(location.hash.slice(1));
    if (asked.startsWith("network-") && marks.some((mark) => mark.dataset.id === asked.slice(8))) {
      open(asked.slice(8), null);
    }
  }

  /* The names in the table open the same panel. */
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

  function remember(id) {
    try {
      history.replaceState(null, "", id ? `#network-${encodeURIComponent(id)}` : location.pathname + location.search);
    } catch (error) { /* a page from disk may not be allowed to; nothing else depends on it */ }
  }

  document.querySelectorAll(".explorer").forEach(explore);
})();
