// Turns what the API says into words. Nothing here touches the page.

export const count = (n) => Math.round(n).toLocaleString("en");
export const many = (n, one, more = one + "s") => (n === 1 ? "1 " + one : count(n) + " " + more);

export function span(ms) {
  if (ms < 1) return ms <= 0 ? "0 ms" : ms.toFixed(2) + " ms";
  if (ms < 10) return ms.toFixed(1) + " ms";
  if (ms < 1000) return Math.round(ms) + " ms";
  if (ms < 60_000) return (ms / 1000).toFixed(ms < 10_000 ? 2 : 1) + " s";
  const s = Math.round(ms / 1000);
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

export function bytes(n) {
  if (n < 1024) return n + " B";
  if (n < 1024 ** 2) return (n / 1024).toFixed(1) + " KiB";
  if (n < 1024 ** 3) return (n / 1024 ** 2).toFixed(1) + " MiB";
  return (n / 1024 ** 3).toFixed(1) + " GiB";
}

const two = (n) => String(n).padStart(2, "0");
export const clock = (d) => `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
export const day = (d) => `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
export const moment = (d, now = new Date()) => (day(d) === day(now) ? clock(d) : `${day(d)} ${clock(d)}`);

// sentence says how a group is: its tone, all of it, and what of it is worth saying aloud
// when it changes, which numbers that run are not.
export function sentence(m) {
  const f = m.status?.failover;
  const p = m.status?.proxy ?? {};
  if (!f) return { tone: "bad", text: "Nothing is known yet.", say: "Nothing is known yet." };
  const at = `${f.master}, epoch ${f.epoch}`;
  const both = (tone, text) => ({ tone, text, say: text });
  switch (f.state) {
    case "serving":
      if (!m.ready) return both("bad", `${at} cannot take commands: ${m.reason}.`);
      if (f.switchover) return both("warn", `Serving ${at}; a switchover is under way: ${f.switchover}.`);
      if (f.degraded?.length) return both("warn", `Serving ${at}, but degraded: ${f.degraded.join("; ")}.`);
      if (m.reason) return both("warn", `Serving ${at}, but ${m.reason}.`);
      return both("ok", `Serving ${at}.`);
    case "holding": {
      const why = `${f.why}${f.hold ? ` (${f.hold.cause})` : ""}.`;
      const doing = f.switchover ? ` Switchover: ${f.switchover}.` : "";
      return {
        tone: "warn",
        text: `Holding ${many(p.commands_held ?? 0, "command")} for ${span(f.hold?.took_ms ?? f.since_ms)}: ${why}${doing}`,
        say: `Holding commands: ${why}${doing}`,
      };
    }
    case "fenced":
      return {
        tone: "bad",
        text: `Fenced for ${span(f.since_ms)}: commands for ${f.master} wait, ${many(p.commands_held ?? 0, "command")} now: ${f.why}.`,
        say: `Fenced: commands for ${f.master} wait: ${f.why}.`,
      };
    case "down": {
      const what = p.outage?.on ? "commands get what the outage policy says" : "commands fail at once";
      return { tone: "bad", text: `Down for ${span(f.since_ms)}: ${what}: ${f.why}.`, say: `Down: ${what}: ${f.why}.` };
    }
  }
  return { tone: "bad", text: `Looking for the master for ${span(f.since_ms)}: ${f.why || m.reason}.`, say: "Looking for the master." };
}

// replicas are the nodes beside the master: those that the sidecar asks, and those that
// the Sentinels list.
export function replicas(f) {
  const all = new Map();
  for (const r of f.sentinels?.replicas ?? []) all.set(r.addr, { addr: r.addr, flags: r.flags, up: r.up });
  for (const n of f.nodes ?? []) all.set(n.addr, { ...all.get(n.addr), ...n });
  all.delete(f.master);
  return [...all.values()].sort((a, b) => (a.addr < b.addr ? -1 : 1));
}

export const master = (f) => (f.nodes ?? []).find((n) => n.addr === f.master);

export function masterState(f) {
  const n = master(f);
  if (!n) return { tone: "warn", text: "not asked yet" };
  if (n.err) return { tone: "bad", text: "does not answer", more: n.err };
  if (n.role !== "master") return { tone: "bad", text: `says ${n.role}` };
  return { tone: "ok", text: `answers in ${span(n.probe_ms)}` };
}

export function replicaState(n) {
  if (n.err) return { tone: "bad", text: "does not answer", more: n.err };
  if (n.role === undefined) return n.up ? { tone: "warn", text: "not asked yet" } : { tone: "bad", text: "down, Sentinels say", more: n.flags };
  if (n.role !== "replica") return { tone: "bad", text: `says ${n.role}` };
  if (!n.link_up) return { tone: "bad", text: "link down" };
  if (n.lag_bytes === undefined) return { tone: "ok", text: "linked" };
  return { tone: n.lag_seconds >= 10 ? "warn" : "ok", text: `${bytes(n.lag_bytes)}, ${n.lag_seconds.toFixed(0)} s behind` };
}

export function vote(v, together) {
  if (!v.up) return { tone: "bad", text: "does not answer", more: v.err };
  if (v.tilt) return { tone: "warn", text: "in TILT mode" };
  if (v.master !== together.master) return { tone: "warn", text: `names ${v.master}`, more: `at epoch ${v.epoch}` };
  if (v.epoch !== together.epoch) return { tone: "warn", text: `agrees, epoch ${v.epoch}` };
  return { tone: "ok", text: v.subscribed ? "agrees" : "agrees, polled only" };
}

export function route(m) {
  const f = m.status.failover;
  const tone = sentence(m).tone;
  const held = m.status.proxy?.commands_held ?? 0;
  const text = f.state === "holding" || f.state === "fenced" ? `${f.state}, ${count(held)} wait` : f.state;
  return { tone: f.state === "serving" && tone === "warn" ? "ok" : tone, text };
}

// named tells whom how many Sentinels name.
export function named(s) {
  if (!s.answering || !s.master) return "nobody names a master";
  return `${s.support} name${s.support === 1 ? "s" : ""} ${s.master}, epoch ${s.epoch}`;
}

// words tells the drawing of a group, a sentence each.
export function words(m) {
  const f = m.status.failover;
  const s = f.sentinels;
  const with_ = (state) => state.text + (state.more ? `: ${state.more}` : "");
  const lines = [`This sidecar's route to ${f.master}, epoch ${f.epoch}: ${route(m).text}${f.ahead ? "; no majority names it yet" : ""}.`];
  lines.push(`Master ${f.master}: ${with_(masterState(f))}.`);
  const others = replicas(f);
  for (const n of others) lines.push(`Replica ${n.addr}: ${with_(replicaState(n))}.`);
  if (!others.length) lines.push("No replica is known.");
  lines.push(`${s.answering} of ${many(s.known, "Sentinel")} answer${s.answering === 1 ? "s" : ""}; ${named(s)}${s.agreed ? "" : ": no majority agrees"}.`);
  for (const v of s.views) lines.push(`Sentinel ${v.sentinel}: ${with_(vote(v, s))}.`);
  return lines;
}
