// Remembers the numbers of the last minutes, as long as the page is open, and plots them.

import { el, put, svg } from "./dom.js";
import { count, span } from "./text.js";

const WINDOW = 5 * 60_000; // milliseconds
const LEAST = 900; // between two samples of a rate

// quantile reads one off the difference of two histograms, in seconds.
function quantile(q, bounds, counts) {
  const total = counts.reduce((a, b) => a + b, 0);
  if (!total) return null;
  let rank = q * total;
  for (let i = 0; i < counts.length; i++) {
    if (rank <= counts[i]) {
      const low = i ? bounds[i - 1] : 0;
      const high = i < bounds.length ? bounds[i] : low; // past the last bound: at least that
      return low + (high - low) * (counts[i] ? rank / counts[i] : 0);
    }
    rank -= counts[i];
  }
  return bounds[bounds.length - 1];
}

// History is one group's numbers.
export class History {
  #base = null; // the sample that the next rates are measured from
  series = { commands: [], held: [], errors: [], p50: [], p99: [] }; // [time, value or null]

  // gap says that what follows does not go on from what was: the link was lost, or another
  // process counts.
  gap() {
    this.#base = null;
    for (const list of Object.values(this.series)) if (list.length) list.push([list[list.length - 1][0], null]);
  }

  // add takes a snapshot.
  add(at, p) {
    if (!p || p.partial) return; // without a loop's numbers, nothing can be told from the difference
    this.#push("held", at, p.commands_held);
    const next = { at, commands: p.commands, errors: p.command_errors, latency: p.latency };
    const base = this.#base;
    if (!base || next.commands < base.commands) {
      this.#base = next;
      return;
    }
    const ms = at - base.at;
    if (ms < LEAST) return;
    this.#base = next;
    const rate = (name) => ((next[name] - base[name]) * 1000) / ms;
    this.#push("commands", at, rate("commands"));
    if (next.errors !== undefined && base.errors !== undefined) this.#push("errors", at, rate("errors"));
    if (next.latency && base.latency?.counts.length === next.latency.counts.length) {
      const counts = next.latency.counts.map((n, i) => Math.max(0, n - base.latency.counts[i]));
      for (const [name, q] of [["p50", 0.5], ["p99", 0.99]]) {
        const v = quantile(q, next.latency.bounds_seconds, counts);
        this.#push(name, at, v === null ? null : v * 1000);
      }
    }
  }

  #push(name, at, value) {
    const list = this.series[name];
    list.push([at, value]);
    while (list.length && list[0][0] < at - WINDOW) list.shift();
  }
}

// Plot is one small picture of a series or two.
class Plot {
  constructor(title, names, unit) {
    this.title = title;
    this.names = names;
    this.unit = unit;
    this.now = el("figcaption");
    this.svg = svg("svg", { viewBox: "0 0 300 60", preserveAspectRatio: "none", role: "img" });
    this.lines = names.map((_, i) => svg("path", { class: i ? "second" : "first" }));
    this.svg.append(...this.lines);
    this.top = el("span");
    this.node = el("figure", {}, this.now, this.svg, el("div", { class: "soft" }, el("span", {}, "5 min ago"), this.top, el("span", {}, "now")));
  }

  show(series, at) {
    const lists = this.names.map((n) => series[n]);
    const values = lists.flat().map((s) => s[1]).filter((v) => v !== null);
    const top = Math.max(...values, 0);
    const last = lists.map((l) => (l.length ? l[l.length - 1][1] : null));
    const label = (v) => (v === null ? "–" : this.unit(v));
    const now = !values.length ? "not measured" : this.names.length > 1 ? this.names.map((n, i) => `${n} ${label(last[i])}`).join(", ") : label(last[0]);
    put(this.now, `${this.title}: ${now}`);
    put(this.top, values.length ? `highest ${this.unit(top)}` : "");
    this.svg.setAttribute("aria-label", `${this.title} in the last 5 minutes: ${now}${values.length ? `, highest ${this.unit(top)}` : ""}`);
    lists.forEach((list, i) => this.lines[i].setAttribute("d", path(list, at, top || 1)));
  }
}

function path(list, at, top) {
  let d = "";
  let pen = "M";
  for (const [t, v] of list) {
    if (v === null) {
      pen = "M";
      continue;
    }
    d += `${pen}${(300 - ((at - t) * 300) / WINDOW).toFixed(1)} ${(57 - (v / top) * 54).toFixed(1)}`;
    pen = "L";
  }
  return d;
}

// plots are a group's.
export function plots(container) {
  const all = [
    new Plot("Commands per second", ["commands"], count),
    new Plot("Latency", ["p50", "p99"], span),
    new Plot("Commands held", ["held"], count),
    new Plot("Errors per second", ["errors"], (v) => (v && v < 10 ? v.toFixed(1) : count(v))),
  ];
  container.replaceChildren(...all.map((p) => p.node));
  return (series, at) => all.forEach((p) => p.show(series, at));
}
