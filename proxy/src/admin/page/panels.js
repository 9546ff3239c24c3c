// The panels that have answers of their own: edges, latest errors, certificates, requests as they pass.
const SVG = "http://www.w3.org/2000/svg";
const PLACES = 12;        // callers, and upstreams, in the picture
const EVENTS = 100;       // requests in the table of those that pass
const edgesBefore = [];
let rounds = 0;

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (answer.status === 403) return null;
  if (!answer.ok) throw new Error(`${path}: status ${answer.status}`);
  return answer.json();
}

async function panels() {
  const round = rounds++;
  picture(await ask("/edges"));
  if (round % 2 === 0) recent(await ask("/errors"));
  if (round % 30 === 0) certificates(await ask("/certificates"));
}

// The last part of a SPIFFE ID is what people look for.
const short = (id) => {
  const found = /^spiffe:\/\/[^/]+\/ns\/([^/]+)\/sa\/(.+)$/.exec(id);
  return found ? `${found[1]}/${found[2]}` : id;
};

function circuits(now, then, seconds, first) {
  const rows = now.upstreams.map((u) => {
    const b = u.breaker, retries = now.retries[u.name] || {}, before = then.retries[u.name] || {};
    const state = !b ? "none" : b.state || (b.ejected ? `${b.ejected} of ${u.endpoints.length} ejected` : "closed");
    const cls = !b ? "dim" : state === "closed" ? "good" : state === "open" ? "bad" : "warn";
    const gate = (g) => g.limit ? `${number(g.in_flight)} of ${number(g.limit)}` : number(g.in_flight);
    const adaptive = u.limits.adaptive ? number(u.limits.adaptive.limit) : "\u2013";
    const sent = (retries.sent || 0) - (before.sent || 0);
    const refused = Object.entries(retries).filter(([k]) => k !== "sent").reduce((a, [, v]) => a + v, 0);
    return [[u.name, "name"], [state.replace("_", "-"), cls], b ? b.scope : "\u2013",
      b && b.retry_after_seconds ? duration(b.retry_after_seconds) : "\u2013",
      [gate(u.limits.requests), "num"], [number(u.limits.requests.waiting), "num"], [gate(u.limits.connections), "num"], [adaptive, "num"],
      [first ? "\u2013" : rate(sent / seconds), "num"], [number(refused), "num"]];
  });
  table("circuits", ["upstream", "circuit", "scope", "next probe", ["requests", "num"], ["waiting", "num"], ["connections", "num"],
    ["adaptive limit", "num"], ["retries/s", "num"], ["retries refused", "num"]], rows, "None.");
}

function svg(tag, attributes, text) {
  const e = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  if (text !== undefined) e.textContent = text;
  return e;
}

// What each edge did in the last ten seconds: requests per second, failures.
function flows(now) {
  const at = performance.now() / 1000, id = (e) => JSON.stringify([e.direction, e.upstream, e.peer]);
  edgesBefore.push({ at, by: new Map(now.edges.map((e) => [id(e), e])) });
  while (edgesBefore.length > 2 && at - edgesBefore[0].at > WINDOW) edgesBefore.shift();
  const then = edgesBefore[0], seconds = Math.max(at - then.at, 0.001);
  return now.edges.map((e) => {
    const b = then.by.get(id(e));
    const first = edgesBefore.length < 2;
    return { ...e, rate: first ? 0 : (e.requests - (b ? b.requests : 0)) / seconds, failing: first ? 0 : e.failures - (b ? b.failures : 0) };
  });
}

function picture(now) {
  const all = flows(now), left = new Map(), right = new Map();
  const add = (map, name, note, e) => {
    const key = map.has(name) || map.size < PLACES ? name : "others";
    const node = map.get(key) || { name: key, note: key === "others" ? "" : note, rate: 0, failing: 0, open: false };
    node.rate += e.rate; node.failing += e.failing; node.open = node.open || !e.mtls;
    map.set(key, node);
  };
  for (const e of all) {
    if (e.direction === "inbound") add(left, e.peer ? short(e.peer) : "no identity", "", e);
    else add(right, e.upstream || "no upstream", e.servers.map(short).join(" "), e);
  }
  const rows = Math.max(left.size, right.size, 1), height = rows * 46 + 20, middle = height / 2;
  const e = $("edges");
  e.setAttribute("viewBox", `0 0 900 ${height}`);
  const parts = [];
  const place = (map, x, side) => [...map.values()].forEach((node, i) => {
    const y = (i + 0.5) * (height - 20) / map.size + 10, [from, to] = side === "left" ? [[x + 240, y], [350, middle]] : [[550, middle], [x, y]];
    const mid = (from[0] + to[0]) / 2;
    const cls = [node.failing ? "failing" : "", node.open ? "open" : "", node.rate > 10 ? "busy" : "", node.rate ? "" : "idle"].join(" ").trim();
    parts.push(svg("path", { d: `M${from[0]},${from[1]} C${mid},${from[1]} ${mid},${to[1]} ${to[0]},${to[1]}`, class: cls }));
    parts.push(svg("rect", { x, y: y - 18, width: 240, height: 36, rx: 6 }));
    const title = svg("text", { x: x + 10, y: y - 2 }, cut(node.name, 34));
    title.append(svg("title", {}, node.name));
    parts.push(title, svg("text", { x: x + 10, y: y + 12, class: "note" }, cut([`${rate(node.rate)}/s`, node.note].filter(Boolean).join(" \u00b7 "), 40)));
  });
  place(left, 10, "left");
  place(right, 650, "right");
  parts.push(svg("rect", { x: 350, y: middle - 22, width: 200, height: 44, rx: 6, class: "self" }),
    svg("text", { x: 450, y: middle, "text-anchor": "middle" }, cut(now.proxy, 26)),
    svg("text", { x: 450, y: middle + 14, "text-anchor": "middle", class: "note" }, cut(now.identity ? short(now.identity) : "this proxy", 34)));
  e.replaceChildren(...parts);
  const words = (map) => [...map.values()].map((n) => `${n.name} (${rate(n.rate)}/s${n.failing ? `, ${number(n.failing)} failed` : ""}${n.open ? ", no mutual TLS" : ""})`).join(", ");
  $("edges-text").textContent = `Callers: ${words(left) || "none yet"}. Called: ${words(right) || "none yet"}.`;
}

const cut = (text, most) => text.length > most ? text.slice(0, most - 1) + "\u2026" : text;
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString();

function recent(answer) {
  $("recent-note").hidden = answer !== null;
  if (answer === null) {
    $("recent-note").textContent = "Paths are shown to this host alone: open the page with outrigger dashboard, or kubectl port-forward.";
  }
  const rows = (answer ? answer.errors : []).map((e) => [clock(e.time), [e.reason || String(e.status), "bad"], [String(e.status || "\u2013"), "num"],
    [`${e.method} ${e.path}`.trim() || "(connection)", "name"], e.direction, [e.upstream || "(none)", "name"],
    [e.details, "name"], [e.peer ? short(e.peer) : "\u2013", "name"], [e.request_id, "name dim"]]);
  table("recent", ["time", "reason", ["status", "num"], "request", "direction", "upstream", "details", "caller", "request id"], rows, "None.");
}

function certificates(list) {
  const rows = (list || []).map((c) => {
    const days = (c.notAfterTimestamp - Date.now() / 1000) / 86400;
    const left = days < 0 ? "expired" : days < 2 ? `${number(days * 24, 1)} h` : `${number(days)} days`;
    const life = (c.notAfterTimestamp - c.notBeforeTimestamp) / 86400;
    const cls = days < 0 ? "bad" : days < life / 6 ? "warn" : "good";
    return [c.role, [c.uris[0] || c.dnsNames[0] || c.subject, "name"], [c.issuer, "name"], c.notAfter, [left, cls]];
  });
  table("certificates", ["role", "name", "issuer", "valid until", "left"], rows, "None: this proxy has no identity.");
}

// Requests as they pass: one row each, filled as events come.
const passing = new Map();
let watching = null;

function event(e) {
  if (e.event === "request") {
    passing.set(e.id, { request: e });
    while (passing.size > EVENTS) passing.delete(passing.keys().next().value);
  } else if (passing.has(e.id)) {
    passing.get(e.id)[e.event] = e;
  } else if (e.limited || e.dropped) {
    $("tap-note").textContent = `watching; ${number(e.limited + e.dropped)} left out: too many`;
  }
}

function passed() {
  const rows = [...passing.values()].reverse().map(({ request: r, response, end }) => {
    const status = end ? end.status : response ? response.status : "\u2026";
    const bad = end && (end.reason || end.status >= 500);
    return [r.time.slice(11, 23), r.direction, [`${r.method} ${r.authority}${r.path}`, "name"], [r.upstream || "(none)", "name"],
      [String(status), "num" + (bad ? " bad" : "")], end && end.reason || "\u2013", [end ? duration(end.duration_ms / 1000) : "\u2026", "num"],
      [end ? number(end.retries) : "\u2026", "num"], [r.peer ? short(r.peer) : r.peer_address, "name"]];
  });
  table("tap", ["time", "direction", "request", "upstream", ["status", "num"], "reason", ["took", "num"], ["retries", "num"], "caller"], rows,
    watching ? "Nothing has passed yet." : "Not watched.");
}

async function watch(signal) {
  const query = new URLSearchParams({ rate: "20" });
  if ($("tap-path").value) query.set("path", $("tap-path").value);
  if ($("tap-status").value) query.set("status", $("tap-status").value);
  const answer = await fetch(`/tap?${query}`, { cache: "no-store", signal });
  if (answer.status === 403) throw new Error("only for this host: open the page with outrigger dashboard, or kubectl port-forward");
  if (!answer.ok) throw new Error((await answer.json()).error);
  $("tap-note").textContent = "watching";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    lines.filter(Boolean).forEach((line) => event(JSON.parse(line)));
    passed();
  }
}

$("tap-form").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  if (watching) { watching.abort(); return; }
  watching = new AbortController();
  passing.clear();
  $("tap-go").textContent = "Stop";
  $("tap-go").setAttribute("aria-pressed", "true");
  passed();
  let note = "ended";
  try {
    await watch(watching.signal);
  } catch (error) {
    note = error.name === "AbortError" ? "" : error.message;
  }
  watching = null;
  $("tap-go").textContent = "Watch";
  $("tap-go").setAttribute("aria-pressed", "false");
  $("tap-note").textContent = note;
});

passed();
poll();
