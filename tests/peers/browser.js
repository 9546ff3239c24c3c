// A person with a browser: loads the page, looks at it, and says what was there as JSON.
//
// node browser.js ADDRESS OUT-DIRECTORY
// Environment: CHROMIUM (the program). Nothing but the page's own origin may be asked; what was is in the report.
"use strict";
const path = require("node:path");
const { chromium } = require("playwright-core");

const FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync",
  "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage"];
const PATIENCE = 30000;

async function rows(page, id) {
  return page.$$eval(`#${id} tbody tr`, (all) => all.map((r) => [...r.children].map((c) => c.textContent)));
}

// What the Tab key reaches from the first link on, and how it names itself.
async function keyboard(page) {
  await page.focus(".skip");
  const seen = [];
  for (let i = 0; i < 60; i++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const e = document.activeElement;
      if (!e || e === document.body) return null;
      const labelled = (e.getAttribute("aria-labelledby") || "").split(" ").map((id) => document.getElementById(id)?.textContent || "").join(" ");
      const name = e.getAttribute("aria-label") || labelled.trim() || e.labels?.[0]?.textContent || e.textContent;
      return { tag: e.tagName, id: e.id, name: (name || "").trim().slice(0, 60) };
    });
    if (!at) break;
    seen.push(at);
  }
  return seen;
}

// What a screen reader would stumble over.
async function accessibility(page) {
  return page.evaluate(() => {
    const faults = [];
    if (!document.documentElement.lang) faults.push("no language");
    if (!document.title) faults.push("no title");
    if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
    if (!document.querySelector("main")) faults.push("no main");
    for (const e of document.querySelectorAll("input, select, button")) if (!e.labels?.length && !e.textContent.trim()) faults.push(`${e.id} has no name`);
    for (const e of document.querySelectorAll("[aria-labelledby]")) if (!document.getElementById(e.getAttribute("aria-labelledby"))) faults.push(`${e.id} is labelled by nothing`);
    for (const t of document.querySelectorAll("table")) for (const th of t.querySelectorAll("th")) if (!th.scope) faults.push(`${t.id}: a head without scope`);
    const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
    if (new Set(ids).size !== ids.length) faults.push("an id twice");
    return faults;
  });
}

// Contrast of text against what is behind it (WCAG 2.2, 1.4.3 asks for 4.5).
async function contrast(page) {
  return page.evaluate(() => {
    const parse = (c) => c.match(/[\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
      .reduce((a, v, i) => a + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (e) => {
      for (let at = e; at; at = at.parentElement) {
        const c = parse(getComputedStyle(at).backgroundColor);
        if (c.length < 4 || c[3] > 0) return c;
      }
      return [255, 255, 255];
    };
    let worst = { ratio: 99 };
    for (const e of document.querySelectorAll("h1, h2, h3, p, td, th, dt, dd, a, button, label, b, span, small")) {
      if (!e.textContent.trim() || !e.offsetParent || e.closest(".skip")) continue;
      const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))];
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (ratio < worst.ratio) worst = { ratio, text: e.textContent.slice(0, 40), tag: e.tagName };
    }
    return worst;
  });
}

async function main() {
  const [origin, out] = [process.argv[2], process.argv[3]];
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: FLAGS, headless: true });
  const report = { console: [], asked: [] };
  try {
    const context = await browser.newContext({ viewport: { width: 1280, height: 1500 }, colorScheme: "light", locale: "en-GB", timezoneId: "UTC" });
    const page = await context.newPage();
    page.on("console", (m) => { if (["error", "warning"].includes(m.type())) report.console.push(`${m.type()}: ${m.text()}`); });
    page.on("pageerror", (e) => report.console.push(String(e)));
    // What is watched ends when it is stopped.
    const stopped = (r) => r.url().includes("/tap?") && r.failure()?.errorText === "net::ERR_ABORTED";
    page.on("requestfailed", (r) => { if (!stopped(r)) report.console.push(`failed: ${r.url()} ${r.failure()?.errorText}`); });
    page.on("request", (r) => report.asked.push(r.url()));
    const answer = await page.goto(origin, { timeout: PATIENCE });
    report.policy = answer.headers()["content-security-policy"];
    // Two rounds of figures, so that there are rates.
    await page.waitForFunction(() => Number(document.querySelector("#tiles b")?.textContent) > 0, null, { timeout: PATIENCE });
    await page.waitForFunction(() => document.querySelectorAll("#edges rect").length > 1 && !/\(0\/s/.test(document.querySelector("#edges-text").textContent.split("Called")[0]), null, { timeout: PATIENCE });
    await page.fill("#tap-path", "/orders");
    await page.focus("#tap-go");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelectorAll("#tap tbody tr").length > 2, null, { timeout: PATIENCE });
    report.pressed = await page.getAttribute("#tap-go", "aria-pressed");
    report.title = await page.title();
    report.status = await page.textContent("#status");
    report.tiles = await page.$$eval(".tile", (all) => all.map((t) => [t.querySelector("span").textContent, t.querySelector("b").textContent]));
    for (const id of ["requests", "circuits", "errors", "recent", "tap", "upstreams", "certificates", "listeners"]) report[id] = await rows(page, id);
    report.edges = await page.textContent("#edges-text");
    report.accessibility = await accessibility(page);
    report.lightContrast = await contrast(page);
    report.light = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelector("#tap-go").getAttribute("aria-pressed") === "false", null, { timeout: PATIENCE });
    report.keyboard = await keyboard(page);
    await page.evaluate(() => { document.activeElement.blur(); scrollTo(0, 0); });
    await page.screenshot({ path: path.join(out, "page.png") });
    await page.emulateMedia({ colorScheme: "dark" });
    report.dark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    report.darkContrast = await contrast(page);
    await page.screenshot({ path: path.join(out, "page-dark.png") });
    await page.setViewportSize({ width: 390, height: 844 });
    report.overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  } finally {
    await browser.close();
  }
  console.log(JSON.stringify(report));
}

main().catch((error) => { console.error(error); process.exit(1); });
