// better-auth with its own database in memory, and an API that knows the session's token as a bearer.
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { toNodeHandler } from "better-auth/node";
import { bearer } from "better-auth/plugins/bearer";
import { doDeeds, json, serve } from "./deeds.mjs";

const auth = betterAuth({
  baseURL: "http://app.example.com",
  secret: "a secret of these tests alone, 32 bytes",
  database: memoryAdapter({ user: [], session: [], account: [], verification: [] }),
  emailAndPassword: { enabled: true },
  plugins: [bearer()],
  telemetry: { enabled: false },
  rateLimit: { enabled: false },
});
const pages = toNodeHandler(auth);

const { port } = await serve(async (request, response) => {
  if (request.url.startsWith("/api/auth/")) return pages(request, response);
  const authorization = request.headers.authorization;
  const headers = new Headers(authorization ? { authorization } : {});
  const session = await auth.api.getSession({ headers });
  if (session === null) return json(response, 401, { message: "no session" });
  return json(response, 200, { data: session.user.email });
});
await doDeeds(port, {});
