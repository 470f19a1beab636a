// The panels: each is a function of the status document that fills its own places on the page.

import { chart, condensed, meter, sparkline } from "./charts.js";
import { ago, bytes, clock, count, duration, h, percent, plural, rate, span, when } from "./format.js";

const COLORS = ["one", "two", "three", "four", "five", "six"];
const RESULTS = { ok: "well", expired: "three", token_missing: "four", bad_token: "five", invalid: "bad" };
const RESULT_WORDS = {
  ok: "opened",
  expired: "expired",
  invalid: "invalid",
  token_missing: "claim missing",
  bad_token: "no usable token",
};
const OUTCOMES = { renewed: "well", refused: "bad", unavailable: "three" };
const SECONDS_JOINED = 5;

const place = (id) => document.getElementById(id);
const body = (id) => place(id).querySelector("tbody");
const sum = (values) => values.reduce((total, one) => total + one, 0);

function fill(id, rows, nothing) {
  const columns = place(id).querySelectorAll("th").length;
  const empty = h("tr", { class: "none" }, h("td", { colspan: columns }, nothing));
  body(id).replaceChildren(...(rows.length ? rows : [empty]));
}

function pairs(rows) {
  const shown = rows.filter(([, value]) => value !== null && value !== undefined);
  return h("dl", { class: "pairs" }, shown.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function words(counted) {
  const told = Object.entries(counted).filter(([, number]) => number);
  return told.map(([name, number]) => `${count(number)} ${name.replaceAll("_", " ")}`).join(", ");
}

function failure(text, at) {
  return text ? [h("span", { class: "bad" }, text), at ? [" ", ago(at)] : ""].flat() : null;
}

function status(code) {
  return h("span", { class: `badge ${code >= 500 ? "bad" : code >= 400 ? "warn" : ""}` }, String(code));
}

// -- verdict --------------------------------------------------------------------------------------

export function verdict({ verdict: told, process, warnings }) {
  document.body.dataset.state = told.state;
  document.title = told.state === "well" ? "Sidecar" : `${told.state}: Sidecar`;
  const isMany = told.symptoms.length > 1;
  const [serving] = told.text.split("; ");
  place("sentence").textContent = isMany ? `${serving}; ${told.symptoms.length} things are not well` : told.text;
  const shown = isMany ? told.symptoms : []; // one alone is what the sentence says
  place("symptoms").replaceChildren(
    ...shown.map(({ state, panel, text }) => h("li", { class: state }, h("a", { href: `#${panel}` }, text))),
  );
  const ill = new Set(told.symptoms.map(({ panel }) => panel));
  for (const link of document.querySelectorAll("#panels a")) {
    link.classList.toggle("ill", ill.has(link.hash.slice(1)));
  }
  const { last_reload: reload, workers } = process;
  const answering = workers.filter((one) => one.answers).length;
  const facts = [
    ["Version", process.version],
    ["Started", ago(process.started_at)],
    ["Configuration", [h("code", {}, process.config_hash), " ", ago(process.config_loaded_at)]],
    ["Last reload", reload && [h("span", { class: reload.outcome === "reloaded" ? "" : "bad" }, reload.outcome), " ", ago(reload.at)]],
    ["Workers", workers.length > 1 ? `${answering} of ${workers.length}` : null],
    ["Replaced", process.workers_replaced ? String(process.workers_replaced) : null],
    ["Log", process.log_level_until ? `${process.log_level} until ${clock(process.log_level_until)}` : process.log_level],
    ["Log lines lost", process.log_lines_lost ? h("span", { class: "bad" }, count(process.log_lines_lost)) : null],
  ];
  place("facts").replaceChildren(
    ...facts.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
  const told_of = [
    ...process.config_warnings.map((text) => h("li", {}, text)),
    ...[...warnings].reverse().map((one) =>
      h("li", {}, h("b", { class: one.level === "warning" ? "warn" : "bad" }, one.event), ` ${one.count} × `, ago(one.at), " ", one.detail),
    ),
  ];
  const log = told_of.length ? h("ul", {}, told_of) : h("p", { class: "quiet" }, "Nothing to warn of.");
  place("warning-rows").replaceChildren(log);
}

// -- traffic --------------------------------------------------------------------------------------

function tile(name, value, kind = "") {
  return h("div", { class: "tile" }, h("b", { class: kind }, value), h("span", {}, name));
}

export function traffic({ traffic: told }, route, choose) {
  const row = told.routes.find((one) => one.route === route) ?? null;
  const { latency, upstream_latency: upstream } = row ?? told;
  const errors = row ? sum(row.errors) : sum(told.errors_by_second);
  const total = row ? row.total : sum(told.requests_by_second);
  const share = row ? (row.latency.seconds ? row.upstream_latency.seconds / row.latency.seconds : null) : told.upstream_share;
  place("filter").hidden = row === null;
  place("filter").replaceChildren(
    ...(row ? [`Only ${row.route}. `, h("button", { type: "button", class: "link", onclick: () => choose(null) }, "Show all routes")] : []),
  );
  place("tiles").replaceChildren(
    tile("requests a second", row ? rate(sum(row.requests.slice(-4)) / (4 * told.step)) : rate(told.per_second)),
    tile("p50", duration(latency.p50)),
    tile("p95", duration(latency.p95)),
    tile("p99", duration(latency.p99)),
    tile("of it the upstream", percent(share)),
    tile("upstream p95", duration(upstream.p95)),
    tile(`5xx, ${percent(total ? errors / total : 0)}`, count(errors), errors ? "bad" : ""),
    ...told.in_flight.map((one) => tile(`${one.kind} under way, of ${count(one.limit)}`, count(one.now), one.now > one.limit * 0.8 ? "warn" : "")),
    tile(`connections of ${count(told.connections.limit)}`, count(told.connections.now)),
  );
  requests(told, row);
  latencies(told, row);
  fill("routes", told.routes.map((one) => routeRow(one, one === row, choose)), "No request yet.");
  const codes = Object.entries(told.own_codes);
  place("own-codes").replaceChildren(
    ...(codes.length ? [h("p", {}, "The sidecar's own errors: ", codes.flatMap(([code, number], at) => [at ? ", " : "", `${count(number)} × `, h("code", {}, code)]))] : []),
  );
}

function requests(told, row) {
  const series = row
    ? [row.requests.map((one) => one / told.step), row.errors.map((one) => one / told.step)]
    : [condensed(told.requests_by_second, SECONDS_JOINED), condensed(told.errors_by_second, SECONDS_JOINED)];
  chart(place("requests-chart"), {
    series: [
      { name: "requests", color: "one", values: series[0], filled: true },
      { name: "5xx", color: "bad", values: series[1], filled: true },
    ],
    end: row ? told.until : told.until_second,
    step: row ? told.step : SECONDS_JOINED,
    said: rate,
  });
}

function latencies(told, row) {
  chart(place("latency-chart"), {
    series: [
      { name: "p99", color: "three", values: told.p99 },
      { name: "p95", color: "one", values: told.p95 },
      { name: "p50", color: "two", values: told.p50 },
      { name: "upstream p95", color: "four", values: told.upstream_p95 },
    ],
    end: told.until,
    step: told.step,
    said: duration,
  });
  if (row) {
    place("latency-chart").append(h("p", { class: "hint" }, "Of all routes; the numbers above are of this one."));
  }
}

function routeRow(row, isChosen, choose) {
  const { statuses, latency, upstream_latency: upstream, decisions } = row;
  const number = (value, kind = "") => h("td", { class: `number ${value === "0" ? "quiet" : kind}` }, value);
  const name = h("button", { type: "button", class: "link", "aria-pressed": String(isChosen) }, row.route);
  return h(
    "tr",
    { class: isChosen ? "chosen" : "", onclick: () => choose(isChosen ? null : row.route) },
    h("td", {}, name, " ", h("span", { class: "quiet" }, row.upstream)),
    h("td", {}, sparkline(row.requests, row.errors)),
    number(count(row.total)),
    number(count(statuses["4xx"] ?? 0), "warn"),
    number(count(statuses["5xx"] ?? 0), "bad"),
    number(duration(latency.p50)),
    number(duration(latency.p95)),
    number(duration(upstream.p95)),
    h("td", { class: "quiet" }, words(decisions)),
  );
}

// -- upstreams ------------------------------------------------------------------------------------

export function upstreams({ upstreams: told, now }) {
  place("upstream-cards").replaceChildren(...told.map((one) => upstreamCard(one, now)));
}

function upstreamCard(one, now) {
  const days = one.certificate_days_left;
  const state = one.failing_since
    ? h("span", { class: "bad" }, `failing for ${span(now - one.failing_since)}`)
    : one.is_missing
      ? h("span", { class: "bad" }, "cannot be reached")
      : h("span", { class: "good" }, "answers");
  return h(
    "div",
    { class: "sub" },
    h("h3", {}, one.name, " ", state),
    h("p", { class: "mono quiet" }, one.origin),
    pairs([
      ["Connections", `${one.busy} busy, ${one.idle} idle, ${one.lent} lent to streams; of ${count(one.limit)}`],
      ["Waiting", one.waiting ? h("span", { class: "warn" }, plural(one.waiting, "request")) : null],
      ["Duration", `p50 ${duration(one.latency.p50)}, p95 ${duration(one.latency.p95)}`],
      ["Retries", one.retries ? count(one.retries) : null],
      ["Failed", one.requests_failed ? h("span", { class: "bad" }, `${count(one.requests_failed)}: ${words(one.errors)}`) : null],
      ["Last error", failure(one.last_error, one.last_error_at)],
      ["Certificate", days === null ? null : h("span", { class: days < 14 ? "bad" : "" }, `${Math.floor(days)} days left`)],
    ]),
    h("ul", {}, one.addresses.map((address) => addressRow(address, now))),
  );
}

function addressRow(address, now) {
  const isOut = address.ejected_until !== null && address.ejected_until > now;
  return h(
    "li",
    {},
    h("code", {}, address.address),
    isOut ? h("span", { class: "bad" }, ` left out for another ${span(address.ejected_until - now)}`) : null,
    address.resolved_at ? [" resolved ", ago(address.resolved_at)] : null,
    address.failures ? [`, ${plural(address.failures, "failure")}`] : null,
    address.last_error ? [" ", failure(address.last_error, address.last_error_at)].flat() : null,
  );
}

// -- sessions -------------------------------------------------------------------------------------

export function ended({ ended: told, traffic: { until, step } }, route, look) {
  const reasons = Object.entries(told.by_reason);
  const series = reasons.map(([reason, values], at) => ({
    name: `${reason.replaceAll("_", " ")} (${count(told.totals[reason] ?? sum(values))})`,
    color: COLORS[at % COLORS.length],
    values,
  }));
  if (series.length) {
    chart(place("ended-chart"), { series, end: until, step, said: (value) => count(Math.round(value)), isStacked: true });
  } else {
    place("ended-chart").replaceChildren(h("p", { class: "quiet" }, "No session has ended in the last 15 minutes."));
  }
  const rows = [...told.last].reverse().filter((one) => route === null || one.route === route);
  fill(
    "ended-rows",
    rows.map((one) =>
      h(
        "tr",
        {},
        h("td", {}, when(one.at)),
        h("td", {}, one.reason.replaceAll("_", " "), one.detail ? h("span", { class: "quiet" }, ` ${one.detail}`) : null),
        h("td", {}, one.session ? sessionLink(one.session, look) : "–"),
        h("td", {}, one.method ? `${one.method} ${one.path}` : "–", one.status ? [" ", status(one.status)] : null),
        h("td", {}, one.source ?? "–"),
      ),
    ),
    "None.",
  );
}

export function sessionLink(id, look) {
  return h("button", { type: "button", class: "link mono", title: "Show the story of this session", onclick: () => look(id) }, id);
}

export function sessions({ sessions: told }) {
  const lasting = pairs([
    ["Open", `${plural(told.websockets, "WebSocket")}, ${plural(told.event_streams, "event stream")}`],
    ["Remembered", `${plural(told.cached, "Cookie header")}, ${plural(told.tombstones, "ended session")}`],
    ["Logins", words(told.logins) || null],
    ["Logouts", words(told.logouts) || null],
    ["Back channel", words(told.backchannel_logouts) || null],
  ]);
  place("session-rows").replaceChildren(...told.sources.map(sourceRow), lasting);
}

function sourceRow({ source, type, results, has_opened: hasOpened, example }) {
  const parts = Object.entries(results).filter(([, number]) => number);
  const colors = parts.map(([result, number]) => [RESULTS[result] ?? "six", number]);
  const told = parts.flatMap(([result, number], at) => [
    at ? ", " : "",
    h("span", { class: `c-${RESULTS[result] ?? "six"}` }, `${count(number)} ${RESULT_WORDS[result] ?? result}`),
  ]);
  return h(
    "div",
    { class: "sub" },
    h("h3", {}, source, source === type ? null : h("span", { class: "quiet" }, ` ${type}`), parts.length && !hasOpened ? h("span", { class: "bad" }, " none has opened") : null),
    meter(colors),
    h("p", {}, told.length ? told : "not seen yet"),
    example ? h("p", { class: "hint" }, `First failure, ${clock(example.at)}: ${example.why}`, example.cookie ? ` (${plural(example.chunks, "chunk")}, ${bytes(example.header_bytes)} of cookies)` : "") : null,
  );
}

export function renewals({ renewals: told, provider, traffic: { until, step } }) {
  if (told === null) {
    place("renewal-rows").replaceChildren(h("p", { class: "quiet" }, "Nothing is renewed here: no refresh is configured."));
    place("renewals-chart").replaceChildren();
    return;
  }
  place("renewal-rows").replaceChildren(
    pairs([
      ["Duration", `p50 ${duration(told.latency.p50)}, p95 ${duration(told.latency.p95)}`],
      ["Outcomes", words(told.totals) || "none yet"],
      ["Now", `${count(told.under_way)} under way, ${plural(told.waiting, "request")} waiting`],
      ["Waited", `${plural(told.waited, "request")}; ${count(told.late_served)} came late and were given the successor`],
      ["Paused", told.is_paused ? h("span", { class: "bad" }, "several in a row had no answer; one at a time is tried") : null],
      ["Last error", failure(told.last_error, told.last_error_at)],
      ["Provider", provider?.issuer],
      ["Metadata", provider && fetched(provider.metadata)],
      ["Keys", provider && fetched(provider.keys)],
    ]),
  );
  const series = Object.entries(told.by_outcome).map(([outcome, values]) => ({ name: outcome, color: OUTCOMES[outcome] ?? "six", values }));
  if (series.length) {
    chart(place("renewals-chart"), { series, end: until, step, said: (value) => count(Math.round(value)), isStacked: true });
  } else {
    place("renewals-chart").replaceChildren(h("p", { class: "quiet" }, "No token was renewed in the last 15 minutes."));
  }
}

function fetched({ fetched_at: at, last_error: error, last_error_at: errorAt }) {
  return [at ? ["fetched ", ago(at)] : "not fetched yet", error ? ["; ", failure(error, errorAt)] : ""].flat(3);
}

const NEARLY_FULL = 0.9; // as in the verdict

export function store({ store: told }) {
  const pending = Object.entries(told.pending).filter(([, number]) => number);
  place("store-rows").replaceChildren(
    h("p", {}, h("b", {}, told.kind), told.is_shared ? " shared " : " of this process alone ", h("span", { class: told.is_up ? "good" : "bad" }, told.is_up ? "is up" : "cannot be reached")),
    pairs([
      ["Round trip", duration(told.round_trip)],
      ["Operations", count(told.operations)],
      ["Errors", told.errors ? h("span", { class: "bad" }, count(told.errors)) : "none"],
      ["Last error", failure(told.last_error, told.last_error_at)],
      ["Entries", told.entries === null ? null : count(told.entries)],
      ["Holds", told.size === null ? "not known" : h("span", { class: told.fill > NEARLY_FULL ? "bad" : null }, bytes(told.size), told.fill === null ? "" : `, ${percent(told.fill)} full`)],
      ["Evicts", told.may_evict ? h("span", { class: "bad" }, "it may drop sessions; set maxmemory-policy noeviction") : null],
      ["Not shared yet", pending.length ? h("span", { class: "warn" }, words(told.pending)) : "nothing"],
      ["Lost its data", told.losses ? h("span", { class: "bad" }, plural(told.losses, "time")) : null],
    ]),
  );
}

// -- what went wrong ------------------------------------------------------------------------------

function asked({ method, path }) {
  return method ? `${method} ${path}` : "a request that could not be read";
}

export function refused({ refused: told }, route, look) {
  place("refused-totals").replaceChildren(...(Object.keys(told.totals).length ? [h("p", {}, words(told.totals))] : []));
  const rows = [...told.last].reverse().filter((one) => route === null || one.route === route);
  fill("refused-rows", rows.map((one) => refusedRow(one, look)), "Nothing was refused.");
}

function refusedRow(one, look) {
  const why = [
    one.detail,
    one.origin ? h("p", {}, "Origin ", h("code", {}, one.origin), one.allowed.length ? ["; allowed ", one.allowed.map((origin) => h("code", {}, `${origin} `))] : "") : null,
    one.header_bytes ? h("p", {}, `${bytes(one.header_bytes)}: `, one.cookies.map(([name, size]) => `${name} ${bytes(size)}`).join(", ")) : null,
  ];
  return h(
    "tr",
    {},
    h("td", {}, when(one.at)),
    h("td", {}, status(one.status), " ", h("code", {}, one.code)),
    h("td", {}, asked(one), one.client ? h("span", { class: "quiet" }, ` from ${one.client}`) : null),
    h("td", {}, ...why.flat().filter(Boolean)),
    h("td", {}, requestLink(one, look)),
  );
}

function requestLink(one, look) {
  return h("button", { type: "button", class: "link mono", title: "Show the story of its session", onclick: () => look(one.session ?? one.request_id) }, one.request_id);
}

export function trouble({ trouble: told }, route, look) {
  const rows = [...told].reverse().filter((one) => route === null || one.route === route);
  fill("trouble-rows", rows.map((one) => troubleRow(one, look)), "Nothing has failed.");
}

function troubleRow(one, look) {
  return h(
    "tr",
    {},
    h("td", {}, when(one.at)),
    h("td", {}, status(one.status), " ", h("code", {}, one.code)),
    h("td", {}, asked(one)),
    h("td", {}, one.cause, one.upstream ? h("span", { class: "quiet" }, ` upstream ${one.upstream}`) : null),
    h("td", { class: "number" }, duration(one.milliseconds)),
    h("td", {}, requestLink(one, look)),
  );
}

// -- what is asked for ----------------------------------------------------------------------------

const KINDS = {
  login: "Logged in",
  opened: "First seen here",
  renewed: "Token renewed",
  renewal_failed: "Renewal failed",
  rejected: "Token rejected",
  ended: "Ended",
  unread: "Could not be read",
};

export function story(told, end) {
  const events = [
    ...told.events,
    ...told.trouble.map((one) => ({ ...one, kind: "ended", reason: `${one.status} ${one.code}`, detail: one.cause, isTrouble: true })),
    ...told.refused.map((one) => ({ ...one, kind: "rejected", reason: `${one.status} ${one.code}`, isTrouble: true })),
  ].sort((one, other) => one.at - other.at);
  const rows = events.map((one) =>
    h(
      "li",
      { class: one.kind },
      when(one.at),
      " ",
      h("b", {}, one.isTrouble ? "Request failed" : (KINDS[one.kind] ?? one.kind)),
      one.reason ? ` ${one.reason.replaceAll("_", " ")}` : "",
      one.method ? h("span", { class: "quiet" }, ` ${one.method} ${one.path}`) : null,
      one.kind === "opened" ? h("span", { class: "quiet" }, ` at ${one.route}`) : null,
      one.detail ? h("div", { class: "hint" }, one.detail) : null,
    ),
  );
  const nothing = h("li", {}, "Nothing is known of it: it is older than what is kept, or was never here.");
  const isOver = told.events.some((one) => one.kind === "ended");
  const button = h("button", { type: "button", class: "danger", onclick: () => end(told.session) }, "End this session");
  const act = told.session && !isOver ? [h("li", { class: "act" }, button)] : [];
  place("story").replaceChildren(...(rows.length ? rows : [nothing]), ...act);
}

export function explained(told) {
  if (told.request === undefined && told.result === undefined) {
    place("explained").replaceChildren(h("p", { class: "bad" }, told.reason ?? told.detail ?? "It could not be read."));
    return;
  }
  const { request } = told;
  place("explained").replaceChildren(
    pairs([
      ["Session", h("b", { class: told.result === "ok" ? "good" : "warn" }, RESULT_WORDS[told.result] ?? told.result.replaceAll("_", " "))],
      ["Why", told.why],
      ["Source", told.source],
      ["Cookie", told.cookie && `${told.cookie}, ${plural(told.chunks, "chunk")}, ${bytes(told.header_bytes)} of cookies`],
      ["Expires", told.expires_at && new Date(told.expires_at * 1000).toLocaleString()],
      ["Route", request && (request.route ?? request.endpoint)],
      ["Upstream", request?.upstream],
      ["Fingerprint", request?.session && h("code", {}, request.session)],
      ["Cookies", request?.cookies.map(([name, size]) => `${name} ${bytes(size)}`).join(", ")],
    ]),
    ...(request ? [h("ol", {}, request.decisions.map((one) => h("li", {}, one)))] : []),
  );
}

export function configuration(told, filter) {
  const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const changed = [
    ...told.faults.map((fault) => h("li", { class: "bad" }, fault)),
    ...told.differences.map((one) =>
      h("li", {}, h("code", {}, one.key), ` is ${shown(one.running)} here, and ${shown(one.on_disk)} on disk`),
    ),
  ];
  place("differences").replaceChildren(
    changed.length
      ? h("div", { class: "sub" }, h("h3", { class: "warn" }, "The file on disk is another one"), h("ul", {}, changed))
      : h("p", { class: "quiet" }, "The file on disk says the same."),
  );
  const keys = told.keys.filter((one) => one.key.includes(filter));
  fill(
    "keys",
    keys.map((one) => h("tr", {}, h("td", {}, h("code", {}, one.key)), h("td", {}, h("code", {}, shown(one.value))), h("td", { class: "quiet" }, one.origin))),
    "No key has that in its name.",
  );
}
