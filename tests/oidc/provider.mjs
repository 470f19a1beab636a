// A certified provider with short tokens: `node provider.mjs '{"port": …, "client": {…}}'`.
// Anybody may sign in as anybody at its pages. Prints "ready" once it listens. Options besides:
// `seconds` that an access token lives; `events`, a file that gets a JSON line for each answer of the
// token endpoint and each back-channel logout; `hold`, a file: while it exists, the token endpoint waits.
// From SIGUSR2 on it signs with a new key, and publishes no other.
import { generateKeyPairSync } from 'node:crypto';
import { appendFileSync, existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

import Provider from 'oidc-provider';

import { createMemoryAdapter } from './node_modules/oidc-provider/lib/adapters/memory_adapter.js';

const { port, client, seconds = 20, events, hold } = JSON.parse(process.argv[2]);
const issuer = `http://localhost:${port}`;
const rotated = [];

function signingKey() {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'ES256', kid: `tests-${rotated.length}` };
}

// Each has a key of its own; all share what is stored.
const adapter = createMemoryAdapter();
const make = () => new Provider(issuer, {
  adapter,
  clients: [client],
  jwks: { keys: [signingKey()] },
  cookies: { keys: ['for tests only'] },
  claims: { openid: ['sub'], profile: ['name'], email: ['email'] },
  conformIdTokenClaims: false,
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: `Name of ${id}`, email: `${id}@example.com` }),
  }),
  features: {
    backchannelLogout: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
  },
  // Without its guard against private addresses: every party is on the loopback interface here.
  fetch: (url, options) => globalThis.fetch(url, { ...options, dispatcher: undefined }),
  rotateRefreshToken: true,
  ttl: { AccessToken: seconds, IdToken: 300, RefreshToken: 600, Session: 600, Grant: 600, Interaction: 300 },
});

function watched(provider) {
  if (hold) {
    provider.use(async (ctx, next) => {
      while (ctx.path === '/token' && existsSync(hold)) await sleep(20);
      await next();
    });
  }
  if (events) {
    const note = (event) => appendFileSync(events, `${JSON.stringify(event)}\n`);
    provider.on('grant.success', ({ oidc, body }) =>
      note({ what: oidc.params.grant_type, user: oidc.entities.Account.accountId, answer: body }));
    provider.on('grant.error', ({ oidc }, error) => note({ what: 'error', type: oidc.params?.grant_type, error: error.error }));
    provider.on('server_error', (_, error) => note({ what: 'error', error: String(error) }));
    provider.on('backchannel.success', (_, __, user) => note({ what: 'backchannel', user }));
    provider.on('backchannel.error', (_, error, __, user) => note({ what: 'error', user, error: String(error) }));
  }
  return provider.callback();
}

let answer = watched(make());
process.on('SIGUSR2', () => { rotated.push(1); answer = watched(make()); });
createServer((request, response) => answer(request, response)).listen(port, 'localhost', () => console.log('ready'));
