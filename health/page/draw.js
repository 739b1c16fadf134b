// Draws a group as it is now.

import { svg } from "./dom.js";
import * as text from "./text.js";

const CHAR = 7.3; // width of a letter of the drawing's font
const GAP = 12;
const BOX = 64; // height

// fit shortens s to a width; of an address the end tells more.
function fit(s, width, address) {
  const most = Math.floor(width / CHAR);
  if (s.length <= most) return s;
  if (!address) return s.slice(0, most - 1) + "…";
  const end = Math.max(7, Math.floor(most * 0.6));
  return s.slice(0, most - end - 1) + "…" + s.slice(-end);
}

function box(x, y, w, kind, addr, state, extra) {
  const line = (dy, s, attributes, address) =>
    svg("text", { x: x + 9, y: y + dy, ...attributes }, fit(s, w - 16, address));
  const mark = { ok: "✓ ", warn: "! ", bad: "✕ " }[state.tone] ?? "";
  return svg(
    "g", { class: extra },
    svg("rect", { x, y, width: w, height: BOX, rx: 8, class: state.tone }),
    line(19, kind, { class: "kind" }),
    line(36, addr, {}, true),
    line(53, mark + state.text, { class: state.tone }),
  );
}

// rows puts boxes of n nodes into rows as wide as there is room.
function rows(n, width, y, pitch) {
  const cols = Math.max(1, Math.min(n, Math.floor((width + GAP) / (136 + GAP))));
  const w = Math.min(210, (width - 4 - GAP * (cols - 1)) / cols); // 4: the boxes' lines
  return Array.from({ length: n }, (_, i) => {
    const row = Math.floor(i / cols);
    const inRow = Math.min(cols, n - row * cols);
    const left = (width - inRow * w - (inRow - 1) * GAP) / 2;
    return { x: left + (i % cols) * (w + GAP), y: y + row * pitch, w, row };
  });
}

export function draw(container, m, id) {
  const width = Math.max(240, Math.floor(container.clientWidth));
  const f = m.status.failover;
  const s = f.sentinels;
  const parts = [];
  const middle = width / 2;
  const wide = Math.min(210, width);
  const left = middle - wide / 2;

  const to = text.route(m);
  const masterY = 134;
  parts.push(svg("path", { d: `M${middle} 66V${masterY - 4}m-7 -9l7 9l7 -9`, class: `route ${to.tone}${f.state === "holding" ? " flows" : ""}` }));
  const beside = width - middle - 14;
  parts.push(svg("text", { x: middle + 14, y: 94, class: "kind" }, fit(`route, epoch ${f.epoch}`, beside)));
  parts.push(svg("text", { x: middle + 14, y: 111, class: to.tone }, fit(to.text, beside)));
  const clients = m.status.proxy?.clients ?? 0;
  parts.push(box(left, 2, wide, "this sidecar", m.status.listen?.[0] ?? "", { text: text.many(clients, "client") }));
  parts.push(box(left, masterY, wide, f.ahead ? "master, not agreed yet" : "master", f.master || "none known", text.masterState(f), "master"));

  let y = masterY + BOX;
  const others = text.replicas(f);
  const places = rows(others.length, width, y + 34, BOX + 26);
  const last = places.length ? places[places.length - 1].row : 0;
  const firstOf = (row) => places.filter((p) => p.row === row);
  for (const p of places) parts.push(svg("path", { d: `M${p.x + p.w / 2} ${p.y - 16}V${p.y - 2}m-4 -6l4 6l4 -6` }));
  for (let row = 0; row <= last && places.length; row++) {
    const centres = [...firstOf(row).map((p) => p.x + p.w / 2), last > 0 ? 2 : middle, row === 0 ? middle : 2];
    const bar = firstOf(row)[0].y - 16;
    parts.push(svg("path", { d: `M${Math.min(...centres)} ${bar}H${Math.max(...centres)}` }));
    parts.push(svg("path", { d: row === 0 ? `M${middle} ${y}V${bar}` : `M2 ${firstOf(row - 1)[0].y - 16}V${bar}` }));
  }
  others.forEach((n, i) => {
    const kind = n.role === "master" ? "says master too" : "replica";
    parts.push(box(places[i].x, places[i].y, places[i].w, kind, n.addr, text.replicaState(n)));
  });
  if (places.length) y = places[places.length - 1].y + BOX;

  const tone = s.agreed ? "ok" : "bad";
  parts.push(svg("path", { d: `M0 ${y + 22}H${width}`, "stroke-dasharray": "2 4" }));
  parts.push(svg("text", { x: 2, y: y + 44, class: "kind" }, fit(`Sentinels: ${s.answering} of ${s.known} answer`, width)));
  parts.push(svg("text", { x: 2, y: y + 61, class: tone }, fit(`${s.agreed ? "✓" : "✕"} ${text.named(s)}`, width)));
  const seats = rows(s.views.length, width, y + 74, BOX + 10);
  s.views.forEach((v, i) => parts.push(box(seats[i].x, seats[i].y, seats[i].w, "Sentinel", v.sentinel, text.vote(v, s))));
  y = seats.length ? seats[seats.length - 1].y + BOX : y + 74;

  const lines = text.words(m);
  container.replaceChildren(svg(
    "svg", { viewBox: `0 0 ${width} ${y + 3}`, role: "img", "aria-labelledby": `${id}-title`, "aria-describedby": `${id}-desc` },
    svg("title", { id: `${id}-title` }, `The group ${m.name} as it is now`),
    svg("desc", { id: `${id}-desc` }, lines.join(" ")),
    ...parts,
  ));
  return lines;
}
