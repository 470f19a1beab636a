// Answers, one JSON line for each on standard input: {"mint": [library, name, payload]} with the
// cookies that the library sets, {"read": header} with what each library reads in that Cookie
// header: a list of [library, way, name of the cookie, the claim `n`], sessions only;
// {"join": header} with what Auth.js puts together for each name, before it opens it.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { Auth, skipCSRFCheck } from "@auth/core";
import { encode as encodeV5, getToken as getTokenV5 } from "@auth/core/jwt";
import { RequestCookies } from "./node_modules/@edge-runtime/cookies/dist/index.js";
import { symmetricEncodeJWT } from "better-auth/crypto";
import * as iron8 from "iron-session-8";
import * as iron9 from "iron-session";

// What the packages do not export is taken from their files.
const file = (path) => new URL(`node_modules/${path}`, import.meta.url);
const { SessionStore: StoreV5 } = await import(file("@auth/core/lib/utils/cookie.js"));
const { setChunkedCookie, encrypt } = await import(file("@auth0/nextjs-auth0/dist/server/cookies.js"));
const { StatelessSessionStore } = await import(
  file("@auth0/nextjs-auth0/dist/server/session/stateless-session-store.js")
);
const { createAccountStore, getAccountCookie } = await import(
  file("better-auth/dist/cookies/session-store.mjs")
);
const { parseCookies: parseBetterCall } = await import(file("better-call/dist/cookies.mjs"));
const require = createRequire(import.meta.url);
const { encode: encodeV4, getToken: getTokenV4 } = require("next-auth/jwt");
const { SessionStore: StoreV4 } = require("./node_modules/next-auth/core/lib/cookie.js");
const { parse } = require("./node_modules/next-auth/node_modules/cookie/index.js");

const LIFETIME = 3600;
const secret = process.argv[2];
const logger = { debug() {}, warn() {}, error() {} };
console.warn = () => {}; // of chunks that are missing, at every second spelling

const asMap = (cookies) =>
  Object.fromEntries(cookies.filter((one) => one.value).map((one) => [one.name, one.value]));
const store = (Store, name, value) => asMap(new Store({ name, options: {} }, {}, logger).chunk(value, {}));

const MINT = {
  async authjs(name, token) {
    return store(StoreV5, name, await encodeV5({ token, secret, salt: name, maxAge: LIFETIME }));
  },
  async nextauth(name, token) {
    return store(StoreV4, name, await encodeV4({ token, secret, maxAge: LIFETIME }));
  },
  async auth0(name, { accessToken, refreshToken, ...user }) {
    const tokenSet = { accessToken, refreshToken, expiresAt: Math.floor(Date.now() / 1000) + LIFETIME };
    const session = { user, tokenSet, internal: { sid: "s", createdAt: 1 } };
    const sealed = await encrypt(session, secret, Math.floor(Date.now() / 1000) + LIFETIME);
    const found = new Map();
    const jar = { set: (n, v) => found.set(n, v), delete: (n) => found.delete(n), getAll: () => [] };
    setChunkedCookie(name, sealed, {}, jar, { ...jar, set() {}, delete() {} });
    return Object.fromEntries(found);
  },
  async "better-auth"(name, payload) {
    const sealed = await symmetricEncodeJWT(payload, secret, "better-auth-account", LIFETIME);
    const context = { context: { logger }, headers: new Headers() };
    return asMap(createAccountStore(name, { path: "/", httpOnly: true }, context).chunk(sealed, {}));
  },
  async "iron-session"(name, payload) {
    const response = new Response();
    const options = { cookieName: name, password: secret, ttl: LIFETIME, chunk: true };
    const session = await iron9.getIronSession(new Request("http://localhost/"), response, options);
    Object.assign(session, payload);
    await session.save();
    const pairs = response.headers.getSetCookie().map((line) => line.split(";")[0]);
    return Object.fromEntries(pairs.map((pair) => pair.split(/=(.*)/s).slice(0, 2)));
  },
};

const headersOf = (header) => new Headers({ cookie: header });
const requestCookies = (header) => new RequestCookies(headersOf(header));
const request = (header) => new Request("http://localhost/auth/session", { headers: { cookie: header } });

async function authSession(name, header) {
  const config = {
    secret,
    providers: [],
    trustHost: true,
    basePath: "/auth",
    skipCSRFCheck,
    session: { strategy: "jwt" },
    logger,
    cookies: { sessionToken: { name } },
    callbacks: { session: ({ token }) => ({ expires: "", n: token.n }) },
  };
  return (await Auth(request(header), config)).json();
}

function betterAuth(name, header) {
  const context = { authCookies: { accountData: { name } }, secretConfig: secret };
  const cookies = parseBetterCall(header);
  return getAccountCookie({ getCookie: (key) => cookies.get(key), headers: headersOf(header), context });
}

const ironOptions = (cookieName) => ({ cookieName, password: secret, ttl: LIFETIME });
const auth0 = (name) =>
  new StatelessSessionStore({ secret, cookieOptions: { name } });
const user = (session) => session?.user;

// [library, way, the name without prefix, (name, header) => claims]
const WAYS = [
  ["authjs", "getToken", (name, header) => getTokenV5({ req: { headers: headersOf(header) }, secret, cookieName: name, salt: name, logger })],
  ["authjs", "Auth", authSession],
  ["nextauth", "getToken, cookie", (name, header) => getTokenV4({ req: { cookies: parse(header), headers: {} }, cookieName: name, secret, logger })],
  ["nextauth", "getToken, edge", (name, header) => getTokenV4({ req: { cookies: requestCookies(header), headers: {} }, cookieName: name, secret, logger })],
  ["auth0", "edge", async (name, header) => user(await auth0(name).get(requestCookies(header)))],
  ["better-auth", "account", betterAuth],
  ["iron-session", "9, request", (name, header) => iron9.getIronSession(request(header), new Response(), ironOptions(name))],
  ["iron-session", "9, store", (name, header) => iron9.getIronSession(requestCookies(header), ironOptions(name))],
  ["iron-session", "8, request", (name, header) => iron8.getIronSession(request(header), new Response(), ironOptions(name))],
];

const BASES = {
  authjs: "authjs.session-token",
  nextauth: "next-auth.session-token",
  auth0: "__session",
  "better-auth": "better-auth.account_data",
  "iron-session": "app",
};
const PREFIXES = ["", "__Secure-", "__Host-"];

async function read(header, libraries) {
  const found = [];
  for (const [library, way, claims] of WAYS) {
    if (libraries && !libraries.includes(library)) continue;
    for (const prefix of PREFIXES) {
      const name = prefix + BASES[library];
      const n = await Promise.resolve(claims(name, header)).then((one) => one?.n, () => undefined);
      if (n !== undefined) found.push([library, way, name, n]);
    }
  }
  return found;
}

async function join(header) {
  const values = {};
  for (const prefix of PREFIXES) {
    const name = prefix + BASES.authjs;
    const value = await getTokenV5({ req: { headers: headersOf(header) }, raw: true, cookieName: name, logger });
    if (value) values[name] = value;
  }
  return values;
}

function answer({ mint, read: header, join: joined, libraries }) {
  if (mint) return MINT[mint[0]](mint[1], mint[2]);
  return joined === undefined ? read(header, libraries) : join(joined);
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
}
