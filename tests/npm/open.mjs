// Reads a JSON array of [what, type, secret, cookies] on standard input and prints what the real
// libraries make of each: its claims, or null.
import { createRequire } from "node:module";
import { decode as decodeV5 } from "@auth/core/jwt";

const file = (path) => new URL(`node_modules/${path}`, import.meta.url);
const { SessionStore: StoreV5 } = await import(file("@auth/core/lib/utils/cookie.js"));
const require = createRequire(import.meta.url);
const { decode: decodeV4 } = require("next-auth/jwt");
const { SessionStore: StoreV4 } = require("./node_modules/next-auth/core/lib/cookie.js");
const logger = { debug() {}, warn() {}, error() {} };

const LIBRARIES = {
  authjs: (cookies, name, secret) =>
    decodeV5({ token: new StoreV5({ name }, cookies, logger).value, secret, salt: name }),
  nextauth: (cookies, name, secret) =>
    decodeV4({ token: new StoreV4({ name }, { cookies }, logger).value, secret }),
};

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const opened = [];
for (const [type, name, secret, cookies] of JSON.parse(Buffer.concat(chunks))) {
  opened.push(await LIBRARIES[type](cookies, name, secret).catch(() => null));
}
console.log(JSON.stringify(opened));
