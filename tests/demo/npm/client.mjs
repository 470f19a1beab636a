// The life of a session with openid-client: login, refresh, revocation, logout.
// Arguments: issuer, client id, client secret (empty: a public client), redirect URI,
// post-logout redirect URI. Prints what it has seen as one JSON object.

import * as client from "openid-client";

const [issuer, clientId, secret, redirectUri, byeUri] = process.argv.slice(2);

// A browser: follows nothing by itself, keeps cookies by name, since there is one host only.
const jar = new Map();
const browse = async (url, init = {}) => {
  const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
  const answer = await fetch(url, { redirect: "manual", ...init, headers: { ...init.headers, cookie } });
  for (const line of answer.headers.getSetCookie()) {
    const [name, value] = line.split(";")[0].split("=");
    if (/max-age=0/i.test(line)) jar.delete(name);
    else jar.set(name, value);
  }
  return answer;
};

const signIn = async (url) => {
  const page = await browse(url);
  if (page.status === 303) return { asked: false, url: new URL(page.headers.get("location")) };
  const text = await page.text();
  const [, interaction] = text.match(/name="interaction" value="([^"]+)"/);
  const [, action] = text.match(/<form method="post" action="([^"]+)"/);
  const body = new URLSearchParams({ interaction, user: "alice" });
  const answer = await browse(new URL(action, issuer), { method: "POST", body });
  return { asked: true, url: new URL(answer.headers.get("location")) };
};

const errorOf = async (promise) => {
  try {
    await promise;
    return null;
  } catch (error) {
    return error.error ?? error.code ?? String(error);
  }
};

const authentication = secret ? client.ClientSecretBasic(secret) : client.None();
const config = await client.discovery(new URL(issuer), clientId, undefined, authentication, {
  execute: [client.allowInsecureRequests],
});
client.enableNonRepudiationChecks(config); // so that signatures are checked too

const login = async (more) => {
  const verifier = client.randomPKCECodeVerifier();
  const state = client.randomState();
  const nonce = client.randomNonce();
  const url = client.buildAuthorizationUrl(config, {
    redirect_uri: redirectUri,
    scope: "openid profile email offline_access",
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    state,
    nonce,
    ...more,
  });
  const back = await signIn(url);
  const checks = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, idTokenExpected: true };
  return { asked: back.asked, callback: back.url, checks };
};

const grant = async (one) => client.authorizationCodeGrant(config, one.callback, one.checks);

const first = await login({ prompt: "consent" });
const tokens = await grant(first);
const claims = tokens.claims();
const userinfo = await client.fetchUserInfo(config, tokens.access_token, claims.sub);

const again = await login({}); // single sign-on: no page
const wrongNonce = await errorOf(
  client.authorizationCodeGrant(config, again.callback, { ...again.checks, expectedNonce: "another" }),
);

const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token);
const active = secret ? (await client.tokenIntrospection(config, refreshed.access_token)).active : null;

const reuse = await errorOf(client.refreshTokenGrant(config, tokens.refresh_token));
const afterReuse = await errorOf(client.refreshTokenGrant(config, refreshed.refresh_token));

const second = await login({ prompt: "consent" });
const revokable = await grant(second);
await client.tokenRevocation(config, revokable.refresh_token);
const afterRevocation = await errorOf(client.refreshTokenGrant(config, revokable.refresh_token));
const userinfoAfterRevocation = await errorOf(
  client.fetchUserInfo(config, revokable.access_token, claims.sub),
);

const silent = await login({ prompt: "none" });
const logout = client.buildEndSessionUrl(config, {
  id_token_hint: revokable.id_token,
  post_logout_redirect_uri: byeUri,
  state: "bye",
});
const bye = await browse(logout);
const afterLogout = await login({ prompt: "none" });

console.log(
  JSON.stringify({
    asked: [first.asked, again.asked],
    sub: claims.sub,
    name: userinfo.name,
    scope: tokens.scope,
    expiresIn: tokens.expires_in,
    rotated: refreshed.refresh_token !== tokens.refresh_token,
    wrongNonce,
    active,
    reuse,
    afterReuse,
    afterRevocation,
    userinfoAfterRevocation,
    silent: silent.callback.searchParams.has("code"),
    bye: bye.headers.get("location"),
    afterLogout: await errorOf(grant(afterLogout)),
  }),
);
