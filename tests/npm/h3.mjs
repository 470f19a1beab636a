// Sessions as h3 seals them, for Nuxt (nuxt-auth-utils calls its `useSession`), Nitro and TanStack
// Start. Run by itself it prints what is kept in tests/data/h3.json, for tests without Node.js.
import { pathToFileURL } from "node:url";
import * as h3v1 from "h3";
import * as h3v2 from "h3-2";

// A handler of each version that saves a session, and the cookies that its answer sets.
const answers = {
  1: (save) => {
    const app = h3v1.createApp();
    app.use(h3v1.eventHandler((event) => save(h3v1, event)));
    return h3v1.toWebHandler(app)(new Request("https://localhost/"));
  },
  2: (save) => new h3v2.H3().get("/", (event) => save(h3v2, event)).fetch(new Request("https://localhost/")),
};

export const h3 = (version) => async (data, { cookie, ...config }) => {
  const response = await answers[version](async ({ useSession }, event) => {
    const session = await useSession(event, { name: cookie, ...config });
    await session.update(data);
    return "saved";
  });
  const pairs = response.headers.getSetCookie().map((line) => line.split(";")[0].split(/=(.*)/s));
  return Object.fromEntries(pairs.map(([name, value]) => [name, value]));
};

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const password = "a password of the tests, made up, 32 characters or more";
  const user = { user: { name: "Zoë ☃" }, secure: { accessToken: "token-of-the-test" } };
  const large = { ...user, large: "0123456789abcdef".repeat(400) };
  const kinds = [
    ["h3 1", 1, user, { cookie: "h3" }],
    ["nuxt-auth-utils", 1, user, { cookie: "nuxt-session", maxAge: 604800 }],
    ["h3 2", 2, user, { cookie: "h3" }],
    ["h3 2, with an end", 2, user, { cookie: "app", maxAge: 3600 }],
    ["h3 2, in chunks", 2, large, { cookie: "app" }],
    ["h3 2, as h3 1 seals", 2, user, {
      cookie: "app",
      seal: { encryption: { algorithm: "aes-256-cbc", saltBits: 256, iterations: 1, minPasswordlength: 32 },
        integrity: { algorithm: "sha256", saltBits: 256, iterations: 1, minPasswordlength: 32 } },
    }],
  ];
  const vectors = [];
  for (const [what, version, data, config] of kinds) {
    const cookies = await h3(version)(data, { password, ...config });
    vectors.push({ what, now: Date.now() / 1000, cookie: config.cookie, lifetime: config.maxAge ?? null, data, cookies });
  }
  console.log(JSON.stringify({ password, vectors }, null, 1));
}
