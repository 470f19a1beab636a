// Several users through one undici client each way: `node client.mjs`, the job as JSON on standard
// input; one line of JSON for each call on standard output.
import { Client, Pool } from "undici";

const job = JSON.parse(await new Response(process.stdin).text());
const dispatcher =
  job.connections === 1
    ? new Client(job.origin, { pipelining: job.pipelining })
    : new Pool(job.origin, { connections: job.connections, pipelining: job.pipelining });

const results = [];
let next = 0;

async function work() {
  while (next < job.calls.length) {
    const call = job.calls[next++];
    try {
      const answer = await dispatcher.request({
        method: call.method,
        path: call.path,
        headers: call.headers,
        body: call.body === null ? null : call.body,
        idempotent: true, // with this, and
        blocking: false, // this, undici does not wait for its answer before it sends the next
        headersTimeout: 8_000,
        bodyTimeout: 8_000,
      });
      const body = await answer.body.text();
      results.push([call.nonce, answer.statusCode, answer.headers["x-nonce"] ?? null, body]);
    } catch (error) {
      results.push([call.nonce, 0, String(error), ""]);
    }
  }
}

await Promise.all(Array.from({ length: job.workers }, work));
await dispatcher.close();
process.stdout.write(JSON.stringify(results));
