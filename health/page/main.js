// The status page: shows what the API tells, as it comes.

import { el, put, svg, time } from "./dom.js";
import { draw } from "./draw.js";
import { Link } from "./link.js";
import { History, plots } from "./plots.js";
import { clock, count, day, many, moment, sentence, span } from "./text.js";

const EVENTS = 40; // shown
const CLIENTS = 100; // shown of each group
const $ = (id) => document.getElementById(id);

async function ask(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" }, cache: "no-store" });
  if (!answer.ok) throw new Error(answer.status === 403 ? (await answer.text()).trim() : `answer ${answer.status}`);
  return answer.json();
}

// The last snapshot, and what was made of it.
let page = null;
const groups = new Map(); // by name
const said = new Map(); // what was said aloud, by name

// --- state ---

function showState(link) {
  if (!page) return;
  const live = link.state === "live";
  const before = live ? "" : `${link.state === "paused" ? "Paused" : "Not live"}, last seen ${clock(link.seen)}: `;
  const list = [];
  if (!page.live) list.push({ of: "", tone: "bad", text: "An event loop stands still: only a restart helps." });
  if (page.draining) list.push({ of: "", tone: "warn", text: "The sidecar was asked to stop: it takes no new clients." });
  for (const m of page.masters) {
    list.push({ of: m.name, ...sentence(m) });
  }
  const node = $("state");
  while (node.children.length > list.length) node.lastChild.remove();
  list.forEach((s, i) => {
    const item = node.children[i] ?? node.appendChild(el("li", {}, el("p", {}, el("span", { class: "of" }), el("span"))));
    const f = page.masters.find((m) => m.name === s.of)?.status?.failover;
    item.className = live ? s.tone : "unknown";
    Object.assign(item.dataset, { master: s.of, state: f?.state ?? "", address: f?.master ?? "", epoch: f?.epoch ?? "", degraded: f?.degraded?.length ?? 0, live });
    put(item.firstChild.firstChild, s.of);
    put(item.firstChild.lastChild, before + s.text);
  });
  if (live) announce(list);
  const worst = ["bad", "warn", "ok"].find((t) => list.some((s) => s.tone === t));
  document.title = `${live ? { ok: "✓", warn: "!", bad: "✕" }[worst] : "?"} sentinelproxy on ${location.host}`;
}

// announce has a screen reader say what changed.
function announce(list) {
  const news = list.filter((s) => said.get(s.of) !== (s.say ?? s.text));
  for (const s of news) said.set(s.of, s.say ?? s.text);
  if (news.length) put($("announce"), news.map((s) => `${s.of} ${s.say ?? s.text}`).join(" "));
}

function showLink(link) {
  document.body.dataset.link = link.state;
  const seen = link.seen ? `, last seen ${clock(link.seen)}` : "";
  put($("link"), {
    connecting: "connecting",
    live: page ? `live, ${clock(new Date(page.at))}` : "live",
    lost: `connection lost${seen}; trying again`,
    paused: `paused${seen}`,
  }[link.state]);
}

// --- one group ---

let added = 0; // groups so far, for names that none had before

function addGroup(m) {
  const node = $("group").content.firstElementChild.cloneNode(true);
  const id = `group-${added++}`;
  const part = (s) => node.querySelector(s);
  part("h2").textContent = `Master ${m.name}`;
  part("h2").id = id;
  node.setAttribute("aria-labelledby", id);
  part(".scroll").setAttribute("aria-label", `Clients of ${m.name}`);
  const g = { id, node, part, history: new History(), plots: plots(part(".plots")), drawn: "", failovers: "", asking: false };
  groups.set(m.name, g);
  $("groups").append(node);
  part(".who").addEventListener("toggle", () => showClients(m.name));
  new ResizeObserver(() => {
    g.drawn = "";
    showGroups();
  }).observe(part(".drawing"));
  return g;
}

function showGroups() {
  for (const [name, g] of groups) {
    if (page.masters.some((m) => m.name === name)) continue;
    g.node.remove(); // another sidecar is there now, which does not serve it
    groups.delete(name);
  }
  page.masters.forEach((m) => {
    const g = groups.get(m.name) ?? addGroup(m);
    const f = m.status?.failover;
    if (!f) return;
    const now = JSON.stringify([m.status.failover, m.status.proxy, m.ready, g.part(".drawing").clientWidth]);
    if (now === g.drawn) return;
    g.drawn = now;
    const lines = draw(g.part(".drawing"), m, g.id);
    const words = g.part(".words ul");
    if (words.textContent !== lines.join("")) words.replaceChildren(...lines.map((t) => el("li", {}, t)));
    const p = m.status.proxy;
    put(g.part(".clients"), p ? `${many(p.clients, "client")} on ${(m.status.listen ?? []).join(", ")}; ${many(p.backend_connections, "connection")} to Redis, ${many(p.commands_in_flight, "command")} under way, ${count(p.commands)} handled since the start.${p.partial ? " An event loop did not answer: its own are missing." : ""}` : "");
    showFailovers(g, f);
  });
}

function showFailovers(g, f) {
  const list = (f.failovers ?? []).toReversed();
  const now = JSON.stringify(list);
  if (now === g.failovers) return;
  g.failovers = now;
  g.part(".failovers").replaceChildren(...(list.length ? list.map(failover) : [el("li", { class: "soft" }, "None since the sidecar started.")]));
}

function failover(h) {
  const at = new Date(h.started);
  const to = h.to && h.to !== h.from ? ` → ${h.to}` : "";
  const total = Math.max(h.took_ms, ...h.phases.map((p) => p.after_ms), 1);
  const x = (ms) => 2 + (ms / total) * 296;
  return el(
    "li", {},
    el("div", {}, time(at, moment(at)), ` ${h.from}${to}, epoch ${h.epoch}: `, el("b", {}, span(h.took_ms)), ` (${h.cause}, ${h.outcome})`),
    svg("svg", { viewBox: "0 0 300 26", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: "bar", x: 2, y: 9, width: 296, height: 8 }),
      ...h.phases.map((p) => svg("line", { x1: x(p.after_ms), x2: x(p.after_ms), y1: 2, y2: 24 }))),
    el("ol", { "aria-label": "Phases" }, ...h.phases.map((p) => el("li", { class: "number" }, `${p.name} +${span(p.after_ms)}`))),
  );
}

async function showClients(name) {
  const g = groups.get(name);
  if (!g?.part(".who").open || g.asking || link.state !== "live") return;
  g.asking = true;
  const note = g.part(".note");
  try {
    const got = await ask(`api/v1/clients?limit=${CLIENTS}&master=${encodeURIComponent(name)}`);
    const list = got.masters[0].clients;
    put(note, `${many(list.clients.length, "client")} of ${list.total} at ${clock(new Date())}${list.partial ? "; an event loop did not answer" : ""}`);
    g.part("tbody").replaceChildren(...list.clients.map((c) => el("tr", {}, ...[
      c.addr, c.user, c.name ?? "", c.last_command ?? "", span(c.idle_seconds * 1000), c.pinned_by ? `own: ${c.pinned_by}` : c.backend,
      c.held ? `master, ${span(c.held_seconds * 1000)}` : c.waits_for ?? "",
    ].map((s) => el("td", {}, s)))));
    g.part(".scroll").hidden = !list.clients.length;
  } catch (err) {
    put(note, `The clients cannot be shown: ${err.message}`);
    g.part(".scroll").hidden = true;
  } finally {
    g.asking = false;
  }
}

// --- certificates ---

async function showCertificates() {
  let list;
  try {
    list = (await ask("api/v1/certificates")).certificates ?? [];
  } catch {
    return; // what is shown stays; the next try comes
  }
  const left = (c) => {
    if (!c.expires_at) return ["soft", "not seen yet"];
    const end = day(new Date(c.expires_at));
    if (c.expired) return ["bad", `✕ expired on ${end}`];
    const days = many(c.days_remaining, "day");
    return c.expiring_soon ? ["warn", `! ${days} left, until ${end}`] : ["ok", `✓ ${days} left, until ${end}`];
  };
  const items = list.toSorted((a, b) => (a.expires_at ? a.days_remaining : 1e9) - (b.expires_at ? b.days_remaining : 1e9)).map((c) => {
    const [tone, words] = left(c);
    return el("li", {}, el("b", { class: tone }, words), ` ${c.cert_role} ${c.cert_name} `, el("span", { class: "soft" }, `${c.source}${c.master_name ? `, ${c.master_name}` : ""}`));
  });
  $("certificates").replaceChildren(...(items.length ? items : [el("li", { class: "soft" }, "None: nothing here uses TLS.")]));
}

// --- events ---

let since = null; // the id of the last that was read
let reading = false;
let recent = [];
let drills = [];

async function readEvents() {
  if (reading || (since !== null && since === page.last_event)) return;
  reading = true;
  try {
    for (;;) {
      const got = await ask(`api/v1/events?limit=1000${since === null ? "" : `&since=${since}`}`);
      since = got.next;
      recent = [...recent, ...got.events].slice(-EVENTS);
      drills = [...drills, ...got.events.filter((e) => e.event.startsWith("Drill"))].slice(-EVENTS);
      if (got.events.some((e) => e.event.startsWith("Certificate"))) showCertificates();
      if (got.events.length < 1000) break;
    }
    showEvents();
  } catch {
    // The next frame tries again.
  } finally {
    reading = false;
  }
}

const tones = { info: "soft", warning: "warn", critical: "bad" };

function showEvents() {
  $("events").replaceChildren(...recent.toReversed().map((e) => {
    const at = new Date(e.timestamp);
    return el("li", {}, time(at, moment(at)), " ", el("b", { class: tones[e.severity] }, e.severity), ` ${e.master_name ?? ""} ${e.message}`);
  }));
  const items = drills.toReversed().map((e) => {
    const at = new Date(e.timestamp);
    const good = e.outcome === "passed";
    const how = e.outcome ? el("b", { class: good ? "ok" : "warn" }, `${good ? "✓" : "!"} ${e.outcome}`) : el("b", {}, "begun");
    return el("li", {}, time(at, moment(at)), ` ${e.master_name ?? ""} ${e.drill} `, how, ...report(e.report));
  });
  $("drills").replaceChildren(...(items.length ? items : [el("li", { class: "soft" }, "None was told to this sidecar lately.")]));
}

// report links a drill's report, or names the file on the host that drilled.
function report(where) {
  if (!where) return [];
  if (!/^https?:\/\//.test(where)) return [" report: ", el("code", {}, where)];
  return [" ", el("a", { href: where, rel: "noreferrer noopener" }, "report")];
}

// --- all together ---

function take(next) {
  const at = Date.parse(next.at);
  if (page && page.started_at !== next.started_at) {
    for (const g of groups.values()) g.history.gap();
    showCertificates();
  }
  page = next;
  showState(link);
  showLink(link);
  showGroups();
  for (const m of page.masters) {
    const g = groups.get(m.name);
    g.history.add(at, m.status?.proxy);
    g.plots(g.history.series, at);
  }
  put($("build"), `version ${page.version}, up ${span(page.uptime_seconds * 1000)}`);
  readEvents();
}

const link = new Link("api/v1/status/stream", take, (state) => {
  showLink(link);
  showState(link);
  if (state === "lost") {
    put($("announce"), "Connection lost. What is shown is not live.");
    said.clear();
    for (const g of groups.values()) g.history.gap();
  }
});
showLink(link);

$("pause").addEventListener("click", (e) => {
  const on = link.state !== "paused";
  e.target.setAttribute("aria-pressed", on);
  link.pause(on);
  if (on) for (const g of groups.values()) g.history.gap();
});

showCertificates();
setInterval(() => {
  if (link.state === "live") showCertificates();
}, 60_000);
setInterval(() => {
  for (const name of groups.keys()) showClients(name);
}, 5_000);
