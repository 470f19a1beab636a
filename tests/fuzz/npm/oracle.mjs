// Answers what a browser makes of URLs and Set-Cookie lines: each line of JSON on stdin is a
// question, each line of JSON on stdout its answer. The first line names the ports of the servers
// that make what they like of a path: below /gated/ each of them answers what it was given.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import express from "express";
import serveStatic from "serve-static";
import sirv from "sirv";
import { Cookie } from "tough-cookie";

const root = process.argv[2];

const routed = express();
routed.get("/gated/secret.txt", (_, response) => response.send("what-is-gated-7391"));
const mounted = express();
mounted.use("/gated", (_, response) => response.send("what-is-gated-7391"));

const or404 = (handler) => (request, response) =>
  handler(request, response, () => response.writeHead(404).end());

const handlers = {
  "express route": routed,
  "express mount": mounted,
  "serve-static": or404(serveStatic(root)),
  sirv: or404(sirv(root)),
  "sirv dev": or404(sirv(root, { dev: true, dotfiles: true })),
};

const ports = {};
for (const [name, handler] of Object.entries(handlers)) {
  const server = createServer({ keepAliveTimeout: 0 }, handler);
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  ports[name] = server.address().port;
}

const questions = {
  // Where a browser goes from `base`, null if it goes nowhere.
  url({ text, base }) {
    try {
      return new URL(text, base).href;
    } catch {
      return null; // `URL.canParse` says otherwise of some
    }
  },
  // What a browser sets: the cookie's name and value, and when it ends in milliseconds.
  cookie({ text, now }) {
    const cookie = Cookie.parse(text, { loose: true });
    if (!cookie) return null;
    const ends = cookie.expiryTime(new Date(now));
    return { pair: cookie.cookieString(), ends: ends === undefined || ends === Infinity ? null : Math.max(ends, -1) };
  },
};

console.log(JSON.stringify(ports));
for await (const line of createInterface({ input: process.stdin })) {
  const { ask, ...given } = JSON.parse(line);
  let told;
  try {
    told = { answer: questions[ask](given) };
  } catch (error) {
    told = { failed: String(error) };
  }
  process.stdout.write(`${JSON.stringify(told)}\n`);
}
process.exit(0);
