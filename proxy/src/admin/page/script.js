"use strict";
// Asks for /stats.json each second, and makes rates and percentiles out of the difference between the newest
// answer and the oldest one of the last ten seconds. Names come from the configuration: they are put on the
// page as text only (textContent), never as markup.
const WINDOW = 10;
const history = [];
const $ = (id) => document.getElementById(id);

function element(tag, text, cls) {
  const e = document.createElement(tag);
  if (text !== undefined && text !== null) e.textContent = text;
  if (cls) e.className = cls;
  return e;
}

// Cells are texts, or [text, class].
function table(id, heads, rows, empty) {
  const head = element("thead"), top = element("tr"), body = element("tbody");
  for (const h of heads) {
    const [text, cls] = Array.isArray(h) ? h : [h];
    const th = element("th", text, cls);
    th.scope = "col";
    top.append(th);
  }
  head.append(top);
  for (const row of rows) {
    const tr = element("tr");
    if (row.group) {
      tr.className = "group";
      const th = element("th", row.group);
      th.colSpan = heads.length;
      th.scope = "rowgroup";
      if (row.note) th.append(element("small", "  " + row.note, row.cls));
      tr.append(th);
    } else {
      for (const cell of row) {
        const [text, cls] = Array.isArray(cell) ? cell : [cell];
        tr.append(element("td", text, cls));
      }
    }
    body.append(tr);
  }
  if (!rows.length) {
    const tr = element("tr"), td = element("td", empty, "dim");
    td.colSpan = heads.length;
    tr.append(td);
    body.append(tr);
  }
  $(id).replaceChildren(head, body);
}

const number = (n, places = 0) => n.toLocaleString("en", { maximumFractionDigits: places });
const rate = (n) => number(n, n < 10 ? 1 : 0);

function duration(s) {
  if (s === null) return "\u2013";
  if (s < 0.001) return number(s * 1e6) + " \u00b5s";
  if (s < 1) return number(s * 1e3, s < 0.1 ? 1 : 0) + " ms";
  return number(s, 1) + " s";
}

function uptime(s) {
  const d = Math.floor(s / 86400), h = Math.floor(s / 3600) % 24, m = Math.floor(s / 60) % 60;
  return d ? `${d}d ${h}h` : h ? `${h}h ${m}m` : m ? `${m}m ${Math.floor(s % 60)}s` : `${Math.floor(s)}s`;
}

// The q-quantile, interpolated within its bucket as Prometheus does it.
function quantile(q, buckets, bounds) {
  const total = buckets.reduce((a, b) => a + b, 0);
  if (!total) return null;
  let seen = 0;
  for (let i = 0; i < buckets.length; i++) {
    if (seen + buckets[i] >= q * total && buckets[i]) {
      if (i >= bounds.length) return bounds[bounds.length - 1];
      const low = i ? bounds[i - 1] : 0;
      return low + (bounds[i] - low) * ((q * total - seen) / buckets[i]);
    }
    seen += buckets[i];
  }
  return bounds[bounds.length - 1];
}

const key = (r) => JSON.stringify([r.direction, r.upstream, r.route]);
const minus = (a, b) => a.map((v, i) => v - (b ? b[i] : 0));

// What each route did between two answers.
function changes(now, then) {
  const before = new Map(then.routes.map((r) => [key(r), r]));
  return now.routes.map((r) => {
    const b = before.get(key(r));
    return {
      ...r,
      more: r.requests - (b ? b.requests : 0),
      failed: r.failures - (b ? b.failures : 0),
      classes: minus(r.classes, b && b.classes),
      buckets: minus(r.buckets, b && b.buckets),
    };
  });
}

function show(now) {
  const then = history[0];
  const seconds = Math.max(now.uptime_seconds - then.uptime_seconds, 0.001);
  const first = then === now;
  const routes = changes(now, then);
  const sum = (f) => routes.reduce((a, r) => a + f(r), 0);
  const all = now.bucket_bounds.map(() => 0).concat(0);
  routes.forEach((r) => r.buckets.forEach((n, i) => { all[i] += n; }));
  const requests = sum((r) => r.more);
  const failed = sum((r) => r.failed);

  $("name").textContent = now.name;
  document.title = `${now.name} \u2013 Outrigger`;
  $("status").textContent = now.phase;
  $("status").className = "badge " + (now.phase === "serving" ? "good" : "warn");
  const facts = [
    ...(now.identity ? [["identity", now.identity]] : []),
    ["version", now.version], ["up", uptime(now.uptime_seconds)], ["workers", now.workers],
    ["configuration", `#${now.config.version}, ${new Date(now.config.applied * 1000).toLocaleTimeString()}`],
  ];
  $("facts").replaceChildren(...facts.map(([k, v]) => {
    const div = element("div");
    div.append(element("dt", k), element("dd", v));
    return div;
  }));
  const idle = first || !requests;
  const tiles = [
    [first ? "\u2013" : rate(requests / seconds), "requests per second"],
    [idle ? "\u2013" : number(100 * failed / requests, 2) + " %", "failed: 5xx, no answer, gRPC errors", failed ? "bad" : ""],
    [idle ? "\u2013" : duration(quantile(0.5, all, now.bucket_bounds)), "p50 latency"],
    [idle ? "\u2013" : duration(quantile(0.99, all, now.bucket_bounds)), "p99 latency"],
    [number(now.open_connections), "client connections"],
    [number(now.routes.reduce((a, r) => a + r.requests, 0)), "requests since start"],
  ];
  $("tiles").replaceChildren(...tiles.map(([value, what, cls]) => {
    const tile = element("div", undefined, "tile");
    tile.append(element("b", value, cls), element("span", what));
    return tile;
  }));

  const n = "num";
  table("requests",
    ["direction", "upstream", "route", ["rate/s", n], ["2xx", n], ["3xx", n], ["4xx", n], ["5xx", n], ["p50", n], ["p90", n], ["p99", n], ["total", n]],
    routes.map((r) => {
      const per = (c) => [first ? "\u2013" : rate(r.classes[c] / seconds), n + (c === 4 && r.classes[4] ? " bad" : c === 3 && r.classes[3] ? " warn" : "")];
      const q = (p) => [first ? "\u2013" : duration(quantile(p, r.buckets, now.bucket_bounds)), n];
      return [r.direction, [r.upstream || "(none)", "name"], [r.route || "\u2013", "name"], [first ? "\u2013" : rate(r.more / seconds), n],
        per(1), per(2), per(3), per(4), q(0.5), q(0.9), q(0.99), [number(r.requests), n]];
    }), "No request yet.");

  const errors = [];
  for (const r of now.routes) {
    const old = then.routes.find((o) => key(o) === key(r));
    for (const [reason, count] of Object.entries(r.reasons)) {
      const was = old && old.reasons[reason] || 0;
      errors.push([[reason, "bad"], r.direction, [r.upstream || "(none)", "name"], [r.route || "\u2013", "name"],
        [first ? "\u2013" : rate((count - was) / seconds), n], [number(count), n]]);
    }
  }
  errors.sort((a, b) => a[0][0].localeCompare(b[0][0]));
  table("errors", ["reason", "direction", "upstream", "route", ["rate/s", n], ["total", n]], errors, "None.");

  circuits(now, then, seconds, first);

  const upstreams = [];
  for (const u of now.upstreams) {
    const res = u.resolution;
    const failing = res.state === "failed" || (!u.endpoints.length && res.state !== "pending");
    const note = [u.protocol, u.source.kind, u.source.name, res.state === "static" ? "" : res.state, res.reason, res.details,
      u.endpoints.length ? "" : "no endpoint"].filter(Boolean).join(" \u00b7 ");
    upstreams.push({ group: u.name, note, cls: failing ? "bad" : "" });
    for (const e of u.endpoints) {
      upstreams.push([[e.address, "name"], [e.state, e.state === "ready" ? "good" : "warn"], [number(e.weight), n], e.zone || "\u2013",
        [number(e.in_flight), n], [number(e.connections), n], [e.ewma_ms === null ? "\u2013" : duration(e.ewma_ms / 1000), n],
        [number(e.requests), n], [number(e.failures), n + (e.failures ? " bad" : "")]]);
    }
  }
  table("upstreams", ["endpoint", "state", ["weight", n], "zone", ["in flight", n], ["connections", n], ["EWMA", n], ["requests", n], ["failures", n]],
    upstreams, "None.");

  table("listeners", ["name", "address", "direction", "protocol", "mTLS", ["connections", n], ["callers without mTLS", n]],
    now.listeners.map((l) => [[l.name, "name"], l.address, l.direction, l.protocol, l.mtls, [number(l.connections), n], [number(l.unproven), n]]), "None.");

  $("warnings").hidden = !now.config.warnings.length;
  $("warnings").querySelector("ul").replaceChildren(...now.config.warnings.map((w) => element("li", w)));
}

async function poll() {
  try {
    const answer = await fetch("/stats.json", { cache: "no-store" });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const now = await answer.json();
    // A restart begins again.
    if (history.length && now.uptime_seconds < history[history.length - 1].uptime_seconds) history.length = 0;
    history.push(now);
    while (history.length > 1 && now.uptime_seconds - history[0].uptime_seconds > WINDOW) history.shift();
    show(now);
    await panels();
  } catch (error) {
    console.error(error);
    $("status").textContent = "unreachable: " + error.message;
    $("status").className = "badge bad";
  }
  setTimeout(poll, 1000);
}
