// The admin page: one event stream fills the panels, and a few forms ask for more.

import { tick } from "./format.js";
import * as panels from "./panels.js";

const SHOWN = new Map(); // panel → what it shows, as JSON: what has not changed is left alone
const RETRY_MILLISECONDS = 2000;
const DEBUG_SECONDS = 600;
const PROOF = { "X-Sidecar-Admin": "1" }; // no form of another site can send it

const place = (id) => document.getElementById(id);
let latest = null; // the last status document
let route = null; // the route that is chosen
let keys = null; // the configuration document
let offset = 0; // seconds that the server's clock is ahead of this one
let stream = null;

// -- status ---------------------------------------------------------------------------------------

// Draws a panel if its part of the document is new, and nobody is marking its text.
function draw(id, part, render) {
  const told = JSON.stringify([part, route]);
  const selection = document.getSelection();
  const isMarked = !selection.isCollapsed && place(id).contains(selection.anchorNode);
  if (SHOWN.get(id) !== told && !isMarked) {
    SHOWN.set(id, told);
    render();
  }
}

function show(status) {
  latest = status;
  offset = status.now - Date.now() / 1000;
  const series = [status.traffic.until, status.traffic.step];
  draw("verdict", [status.verdict, status.process, status.warnings], () => panels.verdict(status));
  draw("traffic", status.traffic, () => panels.traffic(status, route, choose));
  draw("upstreams", status.upstreams, () => panels.upstreams(status));
  draw("ended", [status.ended, series], () => panels.ended(status, route, look));
  draw("sessions", status.sessions, () => panels.sessions(status));
  draw("renewals", [status.renewals, status.provider, series], () => panels.renewals(status));
  draw("store", status.store, () => panels.store(status));
  draw("refused", status.refused, () => panels.refused(status, route, look));
  draw("trouble", status.trouble, () => panels.trouble(status, route, look));
  tick(status.now);
}

function choose(chosen) {
  route = chosen;
  show(latest);
}

// -- the stream -----------------------------------------------------------------------------------

function listen() {
  if (stream !== null || document.hidden) {
    return;
  }
  stream = new EventSource("events");
  stream.addEventListener("status", (event) => {
    live("live, every two seconds", true);
    show(JSON.parse(event.data));
  });
  stream.onerror = () => {
    if (latest !== null) {
      document.body.dataset.state = "lost";
      SHOWN.delete("verdict");
    }
    live(`the sidecar does not answer since ${new Date().toLocaleTimeString("en-GB")}; asking again`, false);
    if (stream !== null && stream.readyState === EventSource.CLOSED) {
      hush();
      setTimeout(listen, RETRY_MILLISECONDS);
    }
  };
}

function hush() {
  stream?.close();
  stream = null;
}

function live(text, isOn) {
  place("live").textContent = text;
  place("live").classList.toggle("on", isOn);
}

// -- asking ---------------------------------------------------------------------------------------

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { ...PROOF, "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, options);
  const told = await response.json();
  return { isFine: response.ok, told };
}

function say(text, isBad = false) {
  place("said").textContent = text;
  place("said").classList.toggle("bad", isBad);
}

async function look(id) {
  place("story-id").value = id;
  const { told } = await ask(`session?id=${encodeURIComponent(id)}`);
  panels.story({ events: [], trouble: [], refused: [], ...told }, end);
  place("story-form").scrollIntoView({ block: "center" });
}

async function end(fingerprint) {
  if (await isSure("End this session?", "Its user is logged out everywhere, and its WebSockets and event streams close.", "End it")) {
    await ask("sessions/end", { fingerprint });
    await look(fingerprint);
  }
}

// Ends what a provider's name stands for; the name is sent nowhere else, and goes from the page.
async function endNamed() {
  const [by, name] = [place("end-by").value, place("end-name").value.trim()];
  if (!(await isSure("End every session of this user?", `Everybody with the ${by} ${name} is logged out everywhere.`, "End all"))) {
    return;
  }
  const { isFine, told } = await ask("sessions/end", { [by]: name });
  place("end-said").textContent = isFine ? `${told.ended || "No"} ${told.ended === 1 ? "session" : "sessions"} ended; what is presented later is refused.` : `Not done: ${told.reason}`;
  place("end-said").classList.toggle("bad", !isFine);
  if (isFine) {
    place("end-form").reset();
  }
}

// Asks before something is done that cannot be undone.
function isSure(title, text, act) {
  place("sure-title").textContent = title;
  place("sure-text").textContent = text;
  place("sure-act").textContent = act;
  place("sure").returnValue = "no";
  place("sure").showModal();
  return new Promise((resolve) => {
    place("sure").addEventListener("close", () => resolve(place("sure").returnValue === "yes"), { once: true });
  });
}

async function explain() {
  const { told } = await ask("explain", { request: place("explain-request").value, cookie: place("explain-cookie").value });
  panels.explained(told);
}

async function load() {
  keys = (await ask("configuration.json")).told;
  panels.configuration(keys, place("key-filter").value);
}

async function reload() {
  const { isFine, told } = await ask("reload", {});
  say(isFine ? "Reloaded." : `Refused, the old configuration stays: ${[...(told.faults ?? []), told.reason].filter(Boolean).join("; ")}`, !isFine);
  await load();
}

async function debug() {
  const { isFine, told } = await ask("log-level", { level: "debug", seconds: DEBUG_SECONDS });
  say(isFine ? "Logging at debug for ten minutes." : (told.reason ?? "Refused."), !isFine);
}

const DRAINS =
  "It reports not ready, lets requests come to their end, closes WebSockets and event streams, and stops, as after SIGTERM.";

async function drain() {
  if (await isSure("Drain this sidecar?", DRAINS, "Drain")) {
    const { isFine, told } = await ask("drain", {});
    say(isFine ? "Draining." : (told.reason ?? "Refused."), !isFine);
  }
}

// -- the page -------------------------------------------------------------------------------------

function failed(error) {
  say(`No answer: ${error.message}`, true);
}

function on(id, kind, act) {
  place(id).addEventListener(kind, (event) => {
    if (kind === "submit") {
      event.preventDefault();
    }
    Promise.resolve(act()).catch(failed);
  });
}

on("story-form", "submit", () => look(place("story-id").value.trim()));
on("end-form", "submit", endNamed);
on("explain-form", "submit", explain);
on("key-filter", "input", () => keys && panels.configuration(keys, place("key-filter").value));
on("reload", "click", reload);
on("debug", "click", debug);
on("drain", "click", drain);
document.addEventListener("visibilitychange", () => (document.hidden ? hush() : listen()));
setInterval(() => tick(Date.now() / 1000 + offset), 1000);
listen();
load().catch(failed);
