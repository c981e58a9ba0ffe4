"use strict";
// Filters, zoom, and a table that is linked to the picture. Texts of the trace enter the page as text only (textContent).
(() => {
  const data = JSON.parse(document.getElementById("trace").textContent);
  const byId = (id) => document.getElementById(id);
  const [AT, HOST, SESSION, KIND, TEXT] = [0, 1, 2, 3, 4];
  const rows = [...document.querySelectorAll("#rows .row")].map((node) => ({
    node,
    events: node.dataset.e.split(" ").map(Number),
    at: Number(node.dataset.at),
    to: Number(node.dataset.to),
    y: Number(node.dataset.y),
  }));
  const rowOf = new Map();
  for (const row of rows) for (const event of row.events) rowOf.set(event, row);
  const svg = byId("rows");
  const heads = byId("heads");
  const [width, height] = [svg.viewBox.baseVal.width, svg.viewBox.baseVal.height];
  const PAGE = 500;
  let shown = [];
  let room = PAGE;
  // As wide as there is room, and not too small to read.
  const fit = () => Math.min(1, Math.max(0.7, (byId("picture").clientWidth - 20) / width));
  let scale = fit();
  let picked = -1;

  const fill = (id, values) => {
    for (const value of [...new Set(values)].filter(Boolean).sort((a, b) => a.localeCompare(b, "en", { numeric: true }))) {
      const option = document.createElement("option");
      option.value = option.textContent = value;
      byId(id).append(option);
    }
  };
  fill("host", data.events.map((event) => event[HOST]));
  fill("session", data.events.map((event) => event[SESSION]));
  fill("kind", data.events.map((event) => event[KIND]));

  const seconds = (ms) => (ms / 1000).toFixed(3);
  const number = (id, otherwise) => {
    const value = byId(id).value.trim();
    return value === "" || !Number.isFinite(Number(value)) ? otherwise : Number(value) * 1000;
  };

  const filter = () => {
    const [host, session, kind] = ["host", "session", "kind"].map((id) => byId(id).value);
    const text = byId("text").value.toLowerCase();
    const [from, to] = [number("from", -Infinity), number("to", Infinity)];
    const hit = (event) =>
      (!host || event[HOST] === host) &&
      (!session || event[SESSION] === session) &&
      (!kind || event[KIND] === kind) &&
      (!text || `${event[HOST]} ${event[SESSION]} ${event[KIND]} ${event[TEXT]}`.toLowerCase().includes(text)) &&
      event[AT] >= from &&
      event[AT] <= to;
    shown = [];
    data.events.forEach((event, n) => hit(event) && shown.push(n));
    const set = new Set(shown);
    for (const row of rows) row.node.classList.toggle("off", !row.events.some((event) => set.has(event)));
    byId("count").textContent = `${shown.length} of ${data.events.length} events`;
    room = PAGE;
    zoom(from, to);
    table();
  };

  const zoom = (from, to) => {
    let [top, bottom] = [0, height];
    const inside = rows.filter((row) => row.to >= from && row.at <= to);
    if ((from > -Infinity || to < Infinity) && inside.length > 0) {
      top = Math.max(0, Math.min(...inside.map((row) => row.y)) - 24);
      bottom = Math.min(height, Math.max(...inside.map((row) => row.y)) + 24);
    }
    svg.setAttribute("viewBox", `0 ${top} ${width} ${bottom - top}`);
    svg.setAttribute("width", width * scale);
    svg.setAttribute("height", (bottom - top) * scale);
    for (const part of [heads, byId("legend")]) {
      part.setAttribute("width", width * scale);
      part.setAttribute("height", part.viewBox.baseVal.height * scale);
    }
  };

  const table = () => {
    const body = byId("events");
    const lines = shown.slice(0, room).map((n) => {
      const event = data.events[n];
      const line = document.createElement("tr");
      line.dataset.n = n;
      line.tabIndex = 0;
      const cells = [seconds(event[AT]), event[HOST], event[SESSION], event[KIND], event[TEXT]];
      cells.forEach((text, column) => {
        const cell = document.createElement("td");
        cell.textContent = text;
        if (column === 0) cell.className = "at";
        line.append(cell);
      });
      if (n === picked) line.className = "picked";
      return line;
    });
    body.replaceChildren(...lines);
    byId("more").hidden = room >= shown.length;
  };

  const pick = (n, from) => {
    for (const node of document.querySelectorAll(".picked")) node.classList.remove("picked");
    picked = n;
    const row = rowOf.get(n);
    if (row) row.node.classList.add("picked");
    if (from !== "picture" && row) row.node.scrollIntoView({ block: "center", inline: "nearest" });
    const place = shown.indexOf(n);
    if (place >= room) {
      room = place + PAGE;
      table();
    }
    const line = document.querySelector(`#events tr[data-n="${n}"]`);
    if (!line) return;
    line.classList.add("picked");
    if (from !== "table") line.scrollIntoView({ block: "center" });
  };

  const both = (node, selector, act) => {
    const go = (event) => {
      const target = event.target.closest(selector);
      if (!target || (event.type === "keydown" && event.key !== "Enter")) return;
      act(target);
    };
    node.addEventListener("click", go);
    node.addEventListener("keydown", go);
  };
  both(svg, ".row", (node) => pick(Number(node.dataset.e.split(" ")[0]), "picture"));
  both(byId("events"), "tr", (line) => pick(Number(line.dataset.n), "table"));
  byId("filters").addEventListener("input", filter);
  byId("filters").addEventListener("reset", () => {
    scale = fit();
    setTimeout(filter);
  });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("more").addEventListener("click", () => {
    room += PAGE;
    table();
  });
  for (const [id, factor] of [["in", 1.25], ["out", 0.8]]) {
    byId(id).addEventListener("click", () => {
      scale = Math.min(4, Math.max(0.25, scale * factor));
      zoom(number("from", -Infinity), number("to", Infinity));
    });
  }
  filter();
})();
