// Reads JSON arrays, one a line, and answers each by a line. An element is
//   ["seal", type, name, secret, claims]: the cookies that the real library makes of them, by name;
//   ["open", type, name, secret, cookies]: the claims that it reads in cookies, or null.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { decode as decodeV5, encode as encodeV5 } from "@auth/core/jwt";

const file = (path) => new URL(`node_modules/${path}`, import.meta.url);
const { SessionStore: StoreV5 } = await import(file("@auth/core/lib/utils/cookie.js"));
const require = createRequire(import.meta.url);
const { decode: decodeV4, encode: encodeV4 } = require("next-auth/jwt");
const { SessionStore: StoreV4 } = require("./node_modules/next-auth/core/lib/cookie.js");
const logger = { debug() {}, warn() {}, error() {} };
const maxAge = 3600;

const LIBRARIES = {
  authjs: {
    encode: (token, name, secret) => encodeV5({ token, secret, salt: name, maxAge }),
    decode: (token, name, secret) => decodeV5({ token, secret, salt: name }),
    store: (name, cookies) => new StoreV5({ name, options: {} }, cookies, logger),
  },
  nextauth: {
    encode: (token, _, secret) => encodeV4({ token, secret, maxAge }),
    decode: (token, _, secret) => decodeV4({ token, secret }),
    store: (name, cookies) => new StoreV4({ name, options: {} }, { cookies }, logger),
  },
};

const DEEDS = {
  async seal({ encode, store }, name, secret, claims) {
    const cookies = store(name, {}).chunk(await encode(claims, name, secret), {});
    return Object.fromEntries(cookies.map((cookie) => [cookie.name, cookie.value]));
  },
  open: ({ decode, store }, name, secret, cookies) =>
    decode(store(name, cookies).value, name, secret).catch(() => null),
};

for await (const line of createInterface({ input: process.stdin })) {
  const done = [];
  for (const [deed, type, ...rest] of JSON.parse(line)) {
    done.push(await DEEDS[deed](LIBRARIES[type], ...rest));
  }
  console.log(JSON.stringify(done));
}
