// A certified provider with short tokens: `node provider.mjs '{"port": …, "client": {…}}'`.
// Anybody may sign in as anybody at its pages. Prints "ready" once it listens.
import { generateKeyPairSync } from 'node:crypto';

import Provider from 'oidc-provider';

const { port, client } = JSON.parse(process.argv[2]);
const issuer = `http://localhost:${port}`;
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });

const provider = new Provider(issuer, {
  clients: [client],
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'ES256', kid: 'tests' }] },
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
  ttl: { AccessToken: 20, IdToken: 300, RefreshToken: 600, Session: 600, Grant: 600, Interaction: 300 },
});

provider.listen(port, 'localhost', () => console.log('ready'));
