// What every script here shares: it says its port, then does what lines of standard input ask for.
import { createServer } from "node:http";
import { createInterface } from "node:readline";

/** Listens on a free port of the loopback interface, and returns it. */
export const listen = (server) =>
  new Promise((done) => server.listen(0, "127.0.0.1", () => done(server.address().port)));

/** A server that answers by a function, and its port. */
export async function serve(answer) {
  const server = createServer(answer);
  return { server, port: await listen(server) };
}

export const json = (response, status, value) => {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(value));
};

/** The token that a request came with, as an API sees it. */
export const bearer = (headers) => (headers.authorization ?? "").replace(/^Bearer /, "") || null;

/** Says the port, then takes `{"deed": name, …}` a line and prints what it returns. */
export async function doDeeds(port, deeds) {
  console.log(JSON.stringify({ port }));
  for await (const line of createInterface({ input: process.stdin })) {
    const { deed, ...given } = JSON.parse(line);
    try {
      console.log(JSON.stringify({ done: (await deeds[deed](given)) ?? null }));
    } catch (error) {
      console.log(JSON.stringify({ failed: error.stack ?? String(error) }));
    }
  }
  process.exit(0);
}
