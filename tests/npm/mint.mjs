// Prints, as a JSON array, session cookies that the real libraries make now. Each case has
// `type` and `options` (for the factory of that type), `cookies`, and `lifetime` in seconds.
import { randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { encode as encodeV5 } from "@auth/core/jwt";
import { generateSessionCookie } from "@auth0/nextjs-auth0/testing";
import { symmetricEncodeJWT } from "better-auth/crypto";
import * as iron8 from "iron-session-8";
import * as iron9 from "iron-session";
import { h3 } from "./h3.mjs";

// Chunking is not exported by the packages, so it is taken from their files.
const file = (path) => new URL(`node_modules/${path}`, import.meta.url);
const { SessionStore: StoreV5 } = await import(file("@auth/core/lib/utils/cookie.js"));
const { setChunkedCookie } = await import(file("@auth0/nextjs-auth0/dist/server/cookies.js"));
const { createAccountStore } = await import(file("better-auth/dist/cookies/session-store.mjs"));
const require = createRequire(import.meta.url);
const { encode: encodeV4 } = require("next-auth/jwt");
const { sign } = require("jsonwebtoken");
const { SessionStore: StoreV4 } = require("./node_modules/next-auth/core/lib/cookie.js");

const LIFETIME = 3600;
const logger = { debug() {}, warn() {}, error() {} };
const secret = randomBytes(32).toString("base64");
const newer = randomBytes(32).toString("base64");
const token = `at_${randomBytes(24).toString("base64url")}`;
const name = "Zoë ☃ 😀";
const large = randomBytes(6000).toString("base64");

const asMap = (cookies) => Object.fromEntries(cookies.map((c) => [c.name, c.value]));
const store = (Store, cookie, value) =>
  asMap(new Store({ name: cookie, options: {} }, {}, logger).chunk(value, {}));

async function authjs(payload, { cookie, sealWith = secret }) {
  const sealed = await encodeV5({ token: payload, secret: sealWith, salt: cookie, maxAge: LIFETIME });
  return store(StoreV5, cookie, sealed);
}

async function nextauth(payload, { cookie }) {
  return store(StoreV4, cookie, await encodeV4({ token: payload, secret, maxAge: LIFETIME }));
}

async function auth0({ accessToken, ...user }) {
  const session = { user, tokenSet: { accessToken, expiresAt: 0 } };
  const sealed = await generateSessionCookie(session, { secret });
  const found = new Map();
  const jar = { set: (n, v) => found.set(n, v), delete: (n) => found.delete(n), getAll: () => [] };
  setChunkedCookie("__session", sealed, {}, jar, { ...jar, set() {}, delete() {} });
  return Object.fromEntries(found);
}

async function betterAuth(payload, { cookie }) {
  const sealed = await symmetricEncodeJWT(payload, secret, "better-auth-account", LIFETIME);
  const context = { context: { logger }, headers: new Headers() };
  return asMap(createAccountStore(cookie, { path: "/", httpOnly: true }, context).chunk(sealed, {}));
}

function ironSession({ getIronSession }) {
  return async (payload, { cookie, password, chunk = false }) => {
    const response = new Response();
    const options = { cookieName: cookie, password, ttl: LIFETIME, chunk };
    const session = await getIronSession(new Request("http://localhost/"), response, options);
    Object.assign(session, payload);
    await session.save();
    const pairs = response.headers.getSetCookie().map((line) => line.split(";")[0]);
    return Object.fromEntries(pairs.map((pair) => pair.split(/=(.*)/s).slice(0, 2)));
  };
}

const jwt = async (payload, { algorithm }) => ({
  session: sign(payload, secret, { algorithm, expiresIn: LIFETIME }),
});

const small = { name, accessToken: token };
const big = { ...small, large };
const secrets = [secret];
const rotated = [newer, secret];
const one = { 1: secret };
const two = { 1: secret, 2: newer };
const v5 = "authjs.session-token";
const v4 = "next-auth.session-token";
const account = "better-auth.account_data";

// [what, type, mint, payload, how it is minted, factory options]
const CASES = [
  ["small", "authjs", authjs, small, { cookie: v5 }, { secrets }],
  ["chunked", "authjs", authjs, big, { cookie: v5 }, { secrets }],
  ["secure", "authjs", authjs, small, { cookie: `__Secure-${v5}` }, { secrets }],
  ["secure chunked", "authjs", authjs, big, { cookie: `__Secure-${v5}` }, { secrets }],
  ["own name", "authjs", authjs, small, { cookie: "acme" }, { secrets, cookie: "acme" }],
  ["rotated", "authjs", authjs, small, { cookie: v5 }, { secrets: rotated }],
  ["sealed by a list", "authjs", authjs, small, { cookie: v5, sealWith: rotated }, { secrets: rotated }],
  ["small", "nextauth", nextauth, small, { cookie: v4 }, { secrets }],
  ["chunked", "nextauth", nextauth, big, { cookie: v4 }, { secrets }],
  ["secure", "nextauth", nextauth, small, { cookie: `__Secure-${v4}` }, { secrets }],
  ["rotated", "nextauth", nextauth, small, { cookie: v4 }, { secrets: rotated }],
  ["small", "auth0", auth0, small, {}, { secrets }],
  ["chunked", "auth0", auth0, big, {}, { secrets }],
  ["rotated", "auth0", auth0, small, {}, { secrets: rotated }],
  ["small", "better-auth", betterAuth, small, { cookie: account }, { secrets }],
  ["chunked", "better-auth", betterAuth, big, { cookie: account }, { secrets }],
  ["secure", "better-auth", betterAuth, small, { cookie: `__Secure-${account}` }, { secrets }],
  ["rotated", "better-auth", betterAuth, small, { cookie: account }, { secrets: rotated }],
  ...[iron8, iron9].flatMap((library, index) => {
    const mint = ironSession(library);
    const at = (what) => `${what} v${index + 8}`;
    const options = (passwords) => ({ passwords, cookie: "app" });
    return [
      [at("small"), "iron-session", mint, small, { cookie: "app", password: secret }, options(one)],
      [at("rotated"), "iron-session", mint, small, { cookie: "app", password: one }, options(two)],
      [at("map"), "iron-session", mint, small, { cookie: "app", password: two }, options(two)],
    ];
  }),
  ["chunked v9", "iron-session", ironSession(iron9), big,
    { cookie: "app", password: secret, chunk: true }, { passwords: one, cookie: "app" }],
  ...["HS256", "HS384", "HS512"].map((algorithm) => [
    algorithm, "jwt", jwt, small, { algorithm }, { secrets: rotated, cookie: "session" },
  ]),
  ...[1, 2].flatMap((version) => {
    const how = { cookie: "nuxt-session", password: secret, maxAge: LIFETIME };
    const options = { passwords: one, cookie: "nuxt-session", token: ["secure", "accessToken"] };
    const session = { user: { name }, secure: { accessToken: token } };
    const opened = { ...options, token: ["data", ...options.token], iterations: version === 1 ? 1 : 8192 };
    const at = (what) => `${what} h3 ${version}`;
    return [
      [at("small"), "iron-session", h3(version), session, how, opened],
      ...(version === 1 ? [] : [[at("chunked"), "iron-session", h3(version), { ...session, large }, how, opened]]),
    ];
  }),
];

const minted = await Promise.all(
  CASES.map(async ([what, type, mint, payload, how, options]) => ({
    what, type, options, token, lifetime: LIFETIME, cookies: await mint(payload, how),
  })),
);
console.log(JSON.stringify(minted));
