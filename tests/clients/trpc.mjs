// tRPC with one fast and one slow procedure, called in one batch whose answers stream.
import { createTRPCClient, httpBatchStreamLink } from "@trpc/client";
import { initTRPC, TRPCError } from "@trpc/server";
import { createHTTPServer } from "@trpc/server/adapters/standalone";
import { setTimeout as sleep } from "node:timers/promises";
import { bearer, doDeeds, listen } from "./deeds.mjs";

const t = initTRPC.context().create();
const known = t.procedure.use(({ ctx, next }) => {
  if (ctx.token === "old") throw new TRPCError({ code: "UNAUTHORIZED" });
  return next();
});
let finish;
const router = t.router({
  fast: known.query(({ ctx }) => ctx.token),
  slow: known.query(() => new Promise((done) => (finish = () => done("slow")))),
});
const createContext = ({ req }) => ({ token: bearer(req.headers) });
const port = await listen(createHTTPServer({ router, createContext }));

const client = (url, cookie) =>
  createTRPCClient({ links: [httpBatchStreamLink({ url, headers: { cookie } })] });

await doDeeds(port, {
  /** Resolves the slow call only when the fast one's answer is here; false where it never comes. */
  async batch({ url, cookie }) {
    const { fast, slow } = client(url, cookie);
    const calls = [fast.query(), slow.query()];
    const first = await Promise.race([calls[0], sleep(5000, null)]);
    finish();
    return [first, await calls[0], await calls[1]];
  },
  async refused({ url, cookie }) {
    const error = await client(url, cookie).fast.query().catch((error) => error);
    return [error.name, error.data?.httpStatus ?? error.meta?.response?.status ?? null];
  },
});
