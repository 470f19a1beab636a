"use strict";

// What the page does: a button or form with data-call or data-fetch asks the API by fetch, and the
// answer is shown beside what the API had said. Everything is put in as text, never as HTML.

const DECISIONS = {
  wrap: "put the JSON into the envelope",
  wrap_empty: "made an envelope of an empty answer",
  wrap_error: "made an envelope of an error that is no JSON",
  relay: "passed it through as it came",
  tunnel: "joined both ends as a WebSocket",
  unauthorized: "there is no valid session",
  logout_end: "ended the session, expired the cookies",
  logout_changed: "ended nothing: another session is here",
  logout_void: "ended nothing: another site's, without a session",
  logout_refuse: "ended nothing: no navigation, no proof of a 401",
  logout_confirm: "asked first",
  login: "led the browser to the provider",
  login_answer: "took the provider's answer",
  backchannel_logout: "believed the provider that the session is over",
  refused: "refused it",
  broken: "broke the connection",
};
const EVENTS = {
  login: "opened a session",
  "login failed": "opened no session",
  "refresh failed": "could not renew the token; the session stays",
  "refresh refused": "was refused a new token, so the session is over",
  "session ended": "saw to the end of the session",
};
const FACTS = {
  reason: (reason) => reason,
  code: (code) => code,
  detail: (detail) => detail,
  refresh_token: (outcome) => `refresh token: ${REVOKED[outcome] || outcome}`,
  access_token: (outcome) => `access token: ${REVOKED[outcome] || outcome}`,
};
const REVOKED = { done: "revocation accepted", failed: "revocation failed", none: "nothing to revoke" };
const COUNTS = {
  logins: "logins",
  refresh_exchanges: "renewals",
  refused_exchanges: "refused renewals",
  refresh_reuses: "reuses of a refresh token",
  revocations: "revocations",
  back_channel_delivered: "logout tokens delivered",
};
const SHOWN = 6000; // characters of a long body
const GLANCE = 200; // characters of a body where there is little room
const INDENT = "  ";

const element = (id) => document.getElementById(id);
let requests = 0;
let session = { authenticated: false, subject: null, offset: 0 }; // offset: the server's clock minus this one
let token = null; // what the API knew of the token of the last call here
let providerBack = 0; // when the provider is up again, by this page's clock in ms

// -- asking ---------------------------------------------------------------------------------------

// One request, and what both sides say of it: `chain` is the trace of it and of its redirects.
async function exchange(method, path, body) {
  requests += 1;
  const id = `demo-${Date.now().toString(36)}-${requests}`; // redirects keep it: it names the chain
  const started = performance.now();
  const response = await fetch(path, { method, body, headers: { "X-Request-Id": id } });
  const text = await response.text();
  const milliseconds = Math.round(performance.now() - started);
  const trace = await refresh();
  const chain = trace.entries.filter((entry) => entry.request_id === id).reverse(); // oldest first
  return { request: `${method} ${path}`, response, text, milliseconds, chain, cookies: trace.session_cookies };
}

async function ask(method, path, body) {
  const seen = await exchange(method, path, body);
  showAnswer(seen);
  showApi(seen.chain);
  return seen;
}

function showAnswer({ request, response, text, milliseconds }) {
  const via = response.redirected ? `, redirected to ${new URL(response.url).pathname}` : "";
  const size = `${text.length.toLocaleString("en")} characters in ${milliseconds} ms`;
  element("summary").textContent = `${request}${via}: ${response.status} ${response.statusText}, ${size}`;
  element("summary").classList.toggle("bad", response.status >= 400);
  element("glance").textContent = text.slice(0, GLANCE);
  element("got").textContent = readable(text);
  const login = loginUrl(text);
  element("login-link").hidden = login === null;
  if (login !== null) {
    element("login-link").querySelector("a").href = login;
  }
}

function loginUrl(text) {
  try {
    const { isError, errorData } = JSON.parse(text);
    const url = isError && errorData ? errorData.loginUrl : null;
    return typeof url === "string" && url.startsWith("/") && !url.startsWith("//") ? url : null;
  } catch {
    return null;
  }
}

function showApi(chain) {
  const calls = chain.flatMap((one) => one.api || []);
  if (!calls.length) {
    element("api-summary").textContent = "It was not asked.";
    element("answered").textContent = "–";
    return;
  }
  const api = calls[calls.length - 1];
  const before = calls.slice(0, -1).map((call) => `At first ${call.status}: ${saw(call)} Then `);
  element("api-summary").textContent = `${before.join("")}${api.status}, ${api.content_type || "no type"}. ${saw(api)}`;
  element("answered").textContent = api.body === null ? "(streamed: not kept)" : readable(api.body);
  token = api.status === 401 ? null : api;
  tick();
}

function saw(api) {
  const bearer = api.token_sha256 ? `Authorization: Bearer (SHA-256 ${api.token_sha256}…)` : "no Authorization";
  const cookies = api.cookies.length ? `cookies ${api.cookies.join(", ")}` : "no cookie";
  const sets = api.set_cookies.length ? ` It set ${api.set_cookies.join(", ")}.` : "";
  return `It saw ${bearer}, ${cookies}.${sets}`;
}

// -- a 401, before and after ----------------------------------------------------------------------

async function tellStory() {
  element("story").replaceChildren();
  if (!session.authenticated) {
    await exchange("POST", "/api/login", new URLSearchParams({ name: "Ada", session: "plain" }));
  }
  const before = await exchange("GET", "/api/me");
  const cookies = before.cookies;
  await exchange("POST", "/api/expire");
  const after = await ask("GET", "/api/me");
  const calls = after.chain.flatMap((one) => one.api || []);
  const refused = calls.find((call) => call.status === 401);
  const renewed = calls.length > 1 ? calls[calls.length - 1] : null;
  element("story").replaceChildren(
    card("Before", before.response.status, [
      ["The browser sends", cookies.join(", ") || "no session cookie"],
      ["The API sees", bearer(before.chain.flatMap((one) => one.api || [])[0])],
      ["The browser gets", outcome(before)],
    ]),
    card("The API refuses the token", refused ? refused.status : "–", [
      ["The API says", refused ? refused.body || "(nothing)" : "nothing: it was not asked"],
      ["The sidecar", after.chain.filter((one) => one.event === "request").map(did).join("; then ")],
      ["At the API again", renewed ? `${bearer(renewed)}, ${renewed.status}` : "nothing: there is no other token"],
    ]),
    card("After", after.response.status, [
      ["The browser sends", after.cookies.join(", ") || "no session cookie any more"],
      ["The session", session.authenticated ? "goes on" : "has ended, on every device that had its cookie"],
      ["The browser gets", outcome(after)],
    ]),
  );
  element("story-title").scrollIntoView({ block: "start" });
}

function bearer(call) {
  return call && call.token_sha256 ? `Bearer, SHA-256 ${call.token_sha256}…` : "no token";
}

function outcome({ response, text }) {
  const login = loginUrl(text);
  return login === null ? `${response.status}, its data` : `${response.status} in an envelope, with loginUrl ${login}`;
}

function card(title, status, rows) {
  const item = document.createElement("li");
  const head = item.appendChild(document.createElement("h3"));
  head.textContent = title;
  const badge = head.appendChild(document.createElement("span"));
  badge.className = status >= 400 ? "badge bad" : "badge";
  badge.textContent = ` ${status}`;
  const list = item.appendChild(document.createElement("dl"));
  for (const [name, value] of rows) {
    list.appendChild(document.createElement("dt")).textContent = name;
    list.appendChild(document.createElement("dd")).textContent = value;
  }
  return item;
}

// -- JSON for people ------------------------------------------------------------------------------

function readable(text) {
  if (text.length > SHOWN) {
    const left = (text.length - SHOWN).toLocaleString("en");
    return `${text.slice(0, SHOWN / 2)}\n… ${left} characters left out …\n${text.slice(-SHOWN / 2)}`;
  }
  return /^\s*[[{]/.test(text) ? indented(text) : text || "(empty)";
}

// JSON.parse would change long numbers, so the text itself is broken into lines.
function indented(text) {
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g) || [];
  let depth = 0;
  let out = "";
  tokens.forEach((token, index) => {
    const newLine = (by) => `\n${INDENT.repeat((depth += by))}`;
    const isEmpty = /^[{[]$/.test(tokens[index - 1]);
    if (/^[}\]]$/.test(token)) {
      out += isEmpty ? token : newLine(-1) + token;
      depth -= isEmpty ? 1 : 0;
    } else if (/^[{[]$/.test(token)) {
      const closes = /^[}\]]$/.test(tokens[index + 1]);
      out += token + (closes ? "" : newLine(1));
      depth += closes ? 1 : 0;
    } else {
      out += token === "," ? token + newLine(0) : token === ":" ? ": " : token;
    }
  });
  return out;
}

// -- what happened --------------------------------------------------------------------------------

async function refresh() {
  const load = async (path) => (await fetch(path)).json();
  const [trace, told] = await Promise.all([load("/demo/trace"), load("/auth/session")]);
  element("session-cookies").textContent = trace.session_cookies.join(", ") || "none";
  element("other-cookies").textContent = trace.other_cookies.join(", ") || "none";
  element("trace").replaceChildren(...trace.entries.reverse().map(row));
  if (element("session-who")) {
    showSession(told);
    showProvider(trace.provider);
    tick();
  }
  return trace;
}

function row(entry) {
  const cells = (entry.event === "request" ? ofRequest(entry) : ofEvent(entry)).map((text) => {
    const cell = document.createElement("td");
    cell.textContent = text;
    return cell;
  });
  cells[2].classList.toggle("bad", entry.status >= 400);
  const line = document.createElement("tr");
  line.append(...cells);
  return line;
}

function ofRequest(entry) {
  const calls = entry.api.map((call) => `${saw(call)} It said ${call.status}.`);
  return [entry.number, `${entry.method} ${entry.path}`, entry.status, did(entry), calls.join(" Then: ") || "–"];
}

function ofEvent(entry) {
  const facts = Object.entries(entry.facts).map(([name, value]) => FACTS[name](value));
  const what = EVENTS[entry.event] || entry.event;
  return [entry.number, "–", "–", facts.length ? `${what} (${facts.join(", ")})` : what, "–"];
}

function did(entry) {
  const what = DECISIONS[entry.decision] || entry.decision || "nothing";
  const steps = [
    entry.new_token ? "came with a renewed token" : "",
    entry.repeated ? "met the 401 with a new token and repeated the request" : "",
    entry.reason ? `${what} (${entry.reason})` : what,
  ];
  return steps.filter(Boolean).join("; ");
}

// -- the session and the provider -----------------------------------------------------------------

function showSession(told) {
  session = { ...told, offset: told.serverTime - Date.now() / 1000 };
  token = told.authenticated ? token : null;
  const who = told.name || told.subject || "somebody whom the API knows";
  element("session-who").textContent = told.authenticated ? who : "nobody is logged in";
  element("own-login").disabled = told.subject !== null;
  for (const button of document.querySelectorAll("[data-provider]")) {
    button.disabled = told.subject === null;
  }
}

function showProvider({ down_for: seconds, counts }) {
  providerBack = Date.now() + seconds * 1000;
  const told = Object.entries(COUNTS).map(([name, words]) => `${words}: ${counts[name]}`);
  element("provider-counts").textContent = told.join(", ");
}

// Once a second: how long the session and the token have left, by the server's clock.
function tick() {
  const now = Date.now() / 1000 + session.offset;
  const left = (end) => duration(Math.max(0, Math.ceil(end - now)));
  const ends = session.authenticated && session.expiresAt !== null;
  element("session-end").textContent = ends ? ` (over in ${left(session.expiresAt)}, unless it is used)` : "";
  element("token-end").textContent = token === null ? "–" : `SHA-256 ${token.token_sha256}…${expiry(token, now)}`;
  const down = Math.ceil((providerBack - Date.now()) / 1000);
  element("provider-state").textContent = down > 0 ? ` and down for another ${down} s` : "";
}

function expiry({ expires_at: end }, now) {
  if (end === null) {
    return "";
  }
  return end > now ? ` (good for another ${Math.floor(end - now)} s)` : " (expired: the next call renews it first)";
}

function duration(seconds) {
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const tail = `${String(minutes).padStart(2, "0")}:${String(seconds % 60).padStart(2, "0")}`;
  return hours >= 48 ? `${Math.round(hours / 24)} days` : `${hours}:${tail}`;
}

async function tell(action) {
  const response = await fetch("/demo/provider", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ action, subject: session.subject }),
  });
  element("provider-said").textContent = (await response.json()).message;
  await refresh();
}

// -- connections that stay ------------------------------------------------------------------------

function note(text) {
  const log = element("streams");
  log.textContent += `${text}\n`;
  log.scrollTop = log.scrollHeight;
}

let events = null;

function closeEvents(why) {
  events.close();
  events = null;
  element("events-state").textContent = why;
  element("events-button").textContent = "Open the event stream";
}

function toggleEvents() {
  if (events !== null) {
    closeEvents("closed");
    return;
  }
  events = new EventSource("/api/events");
  element("events-button").textContent = "Close the event stream";
  element("events-state").textContent = "opening";
  events.onopen = () => (element("events-state").textContent = "open");
  events.onmessage = (event) => note(`event ${event.data}`);
  events.onerror = () => {
    if (events.readyState === EventSource.CLOSED) {
      closeEvents("refused: no session");
      refresh();
    } else {
      element("events-state").textContent = "broken off, trying again";
    }
  };
}

let socket = null;

function echo(text) {
  if (socket !== null) {
    socket.send(text);
    return;
  }
  const opened = new WebSocket(`${location.origin.replace(/^http/, "ws")}/api/echo`);
  opened.onopen = () => {
    socket = opened;
    element("echo-state").textContent = "open";
    socket.send(text);
  };
  opened.onmessage = (event) => note(`message ${event.data}`);
  opened.onclose = (event) => {
    socket = null;
    element("echo-state").textContent = `closed: ${event.code} ${event.reason}`;
    refresh();
  };
}

// -- what is on the page ------------------------------------------------------------------------

function failed(error) {
  element("summary").textContent = `No answer: ${error.message}`;
}

for (const button of document.querySelectorAll("[data-call]")) {
  button.addEventListener("click", () => {
    ask(button.dataset.method || "GET", button.dataset.call).catch(failed);
  });
}
for (const button of document.querySelectorAll("[data-provider]")) {
  button.addEventListener("click", () => tell(button.dataset.provider).catch(failed));
}
for (const form of document.querySelectorAll("form[data-fetch]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const body = new URLSearchParams(new FormData(form));
    ask("POST", form.getAttribute("action"), body).catch(failed);
  });
}
if (element("events-button")) {
  element("story-button").addEventListener("click", () => tellStory().catch(failed));
  element("fold").addEventListener("click", () => {
    const shown = element("answer-title").parentElement.classList.toggle("open");
    element("fold").setAttribute("aria-expanded", String(shown));
    element("fold").textContent = shown ? "Fold" : "Details";
  });
  element("events-button").addEventListener("click", toggleEvents);
  element("echo-form").addEventListener("submit", (event) => {
    event.preventDefault();
    echo(element("echo-text").value);
  });
  setInterval(tick, 1000);
}
document.addEventListener("visibilitychange", () => document.hidden || refresh());
window.addEventListener("pageshow", () => refresh());
