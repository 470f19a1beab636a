"""Sessions, by duty: what one process knows, what the others say, how tokens are renewed.

```
view (sidecar.core.view)  what a Cookie header holds; never changes
directory                 Cookie header → view, from memory
  names                   which fingerprint a credential belongs to
  view_cache              the views that are remembered, bounded in bytes
  evidence                what proves a session that anyone could have invented
revocations               which sessions are dead; what ends with them
set_cookies               which Set-Cookie values of an upstream may pass
coordinator               before a request: asks the shared store, renews tokens
  termination             ends sessions that no request presents
  broadcast, records      messages between processes, and their form in the store
  restoration             a store that was away, or has lost writes
refresh                   the newest tokens of a session
  refresh_grant           one exchange of a refresh token, under a lock
  succession              which tokens were exchanged for which
stored, login             login sessions in the store; how they begin
logout_tasks              what follows a logout: revocation and hooks
```
"""
