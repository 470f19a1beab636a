// Printed by `sidecar typescript`, session-sidecar 0.1.0. Commit it to your app; print it anew instead of editing it.
// SPDX-License-Identifier: Apache-2.0
/* eslint-disable */

/** The answer to every call. `if (r.isError)` tells which one it is. */
export type Envelope<T = unknown, E = unknown> = Success<T> | Failure<E>;

/** `data` is null where the API answers nothing (204, an empty body): say `T | null` there. */
export interface Success<T = unknown> {
  isError: false;
  message: string | null;
  data: T;
  status: number;
  errorData: null;
}

/** `errorData` is the API's own, the sidecar's, or null; `isSidecarError` tells. `status` is 0 where no answer came. */
export interface Failure<E = unknown> {
  isError: true;
  message: string;
  data: null;
  status: number;
  errorData: E | SidecarError | null;
}

const SESSION_CODES = ["session_required", "session_expired", "token_rejected"] as const;
const CODES = [
  "session_required", "session_expired", "token_rejected", // no spread: --isolatedDeclarations
  "prefetch_unauthenticated", "session_changed", "token_refreshed", "bad_request", "csrf_rejected", "not_allowed",
  "no_route", "body_too_large", "rate_limited", "headers_too_large", "internal_error", "upstream_unreachable",
  "upstream_protocol", "overloaded", "store_unavailable", "refresh_unavailable", "login_unavailable", "upstream_timeout",
  "network_error", "timed_out", "aborted", "not_an_envelope", // these four are made here
] as const;
export type SessionCode = (typeof SESSION_CODES)[number];
export type SidecarCode = (typeof CODES)[number];

export interface SidecarError<C extends SidecarCode = SidecarCode> {
  code: C;
  requestId?: string;
  loginUrl?: string;
  logoutUrl?: string;
  /** What was thrown where no answer came, with its own `cause`. Not enumerable: it is not serialised. */
  cause?: unknown;
}

/** Whether an `errorData` is the sidecar's (or this file's), not the API's. */
export function isSidecarError(errorData: unknown): errorData is SidecarError {
  return hasCode(errorData, CODES);
}

/** Whether the user must log in again. Not so after `token_refreshed`: that call may be repeated. */
export function isSessionError<E = unknown>(
  envelope: Envelope<unknown, E>,
): envelope is Failure<E> & { errorData: SidecarError<SessionCode> } {
  return envelope.isError && envelope.status === 401 && hasCode(envelope.errorData, SESSION_CODES);
}

export interface FetchApiOptions {
  /** Where the API is, seen from here; on a server the sidecar's address with it. Default: "/api". */
  baseUrl?: string;
  /** On a server: the Cookie header of the request that is being answered. It goes along, and nothing is cached. */
  cookie?: () => string | null | undefined | Promise<string | null | undefined>;
  /**
   * Called where the user must log in again: on a server with the logout path, so that the document becomes a redirect
   * to it; in a browser with the login's URL. What it throws gets through, as frameworks' redirects need it.
   */
  redirect?: (url: string) => unknown;
  /** Used instead of the global one. It has to follow redirects. */
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
  /** The sidecar's `logout.path` as browsers reach it. Default: what the answer says, else "/api/logout". */
  logoutUrl?: string;
}

/** `json` is sent as the body. What has a body is sent by POST unless `method` says otherwise. */
export interface FetchApiInit extends RequestInit {
  json?: unknown;
}

export type FetchApi = <T = unknown, E = unknown>(path: string, init?: FetchApiInit) => Promise<Envelope<T, E>>;

export function createFetchApi(options: FetchApiOptions = {}): FetchApi {
  const { baseUrl = "/api", cookie, redirect, logoutUrl } = options;
  return async <T, E>(path: string, init: FetchApiInit = {}): Promise<Envelope<T, E>> => {
    const url = `${baseUrl.replace(/\/+$/, "")}/${path.replace(/^[/\\]+/, "")}`; // never another host
    const request = requestInit(init, cookie !== undefined, await cookie?.());
    let response: Response;
    let text: string;
    try {
      response = await (options.fetch ?? fetch)(url, request);
      text = await response.text();
    } catch (error) {
      return unanswered(error, init.signal);
    }
    const envelope = toEnvelope<T, E>(response, text);
    if (redirect && response.status === 401 && isSessionError(envelope)) {
      const onServer = cookie !== undefined || !("document" in globalThis);
      await redirect(redirectTarget(envelope.errorData, response.url, onServer, logoutUrl));
    }
    return envelope;
  };
}

/** For browsers. Servers make one of their own, with `cookie`. */
export const fetchApi: FetchApi = createFetchApi();

function requestInit(init: FetchApiInit, passesCookie: boolean, cookie: string | null | undefined): RequestInit {
  const { json, ...rest } = init;
  const headers = new Headers(init.headers);
  if (!headers.has("accept")) headers.set("accept", "application/json");
  if (cookie) headers.set("cookie", cookie);
  const request: RequestInit = { ...(passesCookie && { cache: "no-store" }), ...rest, headers };
  if (json !== undefined) {
    if (!headers.has("content-type")) headers.set("content-type", "application/json");
    request.body = JSON.stringify(json);
  }
  return request.body == null ? request : { method: "POST", ...request };
}

function toEnvelope<T, E>(response: Response, text: string): Envelope<T, E> {
  const { ok, status } = response;
  const success = (data: unknown): Success<T> =>
    ({ isError: false, message: null, data: data as T, status, errorData: null });
  const failure = (errorData: unknown): Failure<E> =>
    ({ isError: true, message: response.statusText || "Unknown error", data: null, status, errorData: errorData as E });
  if (text === "") return ok ? success(null) : failure(null);
  const isJson = /[/+]json\b/i.test(response.headers.get("content-type") ?? "");
  if (!isJson) return ok ? success(text) : failure({ code: "not_an_envelope" });
  try {
    const body: unknown = JSON.parse(text);
    if (isEnvelope(body)) return body as Envelope<T, E>;
    return ok ? success(body) : failure(body);
  } catch {
    return failure({ code: "not_an_envelope" });
  }
}

function isEnvelope(body: unknown): boolean {
  const object = Object(body);
  const members = ["message", "data", "status", "errorData"];
  return typeof object.isError === "boolean" && members.every((name) => name in object);
}

function hasCode(errorData: unknown, codes: readonly string[]): boolean {
  return codes.includes((errorData as Partial<SidecarError> | null | undefined)?.code ?? "");
}

function unanswered(error: unknown, signal: AbortSignal | null | undefined): Failure<never> {
  const { name, digest } = Object(error);
  const stopped = signal?.aborted === true || name === "AbortError" || name === "TimeoutError";
  // What is no error (SvelteKit), or carries a digest (Next.js, React), is the framework's own control flow.
  if (!stopped && (typeof name !== "string" || digest !== undefined)) throw error;
  const reason: unknown = signal?.aborted === true ? signal.reason : error;
  const late = Object(reason).name === "TimeoutError";
  const errorData: SidecarError = { code: !stopped ? "network_error" : late ? "timed_out" : "aborted" };
  Object.defineProperty(errorData, "cause", { value: error });
  return { isError: true, message: said(error), data: null, status: 0, errorData };
}

/** An error's message with that of its cause: Node.js says no more than "fetch failed". */
function said(error: unknown): string {
  const { message, cause } = Object(error);
  const why = cause === undefined ? "" : String(Object(cause).message || Object(cause).code || cause);
  return [String(message ?? error), why].filter((text) => text !== "").join(": ");
}

function redirectTarget(error: SidecarError, answeredBy: string, onServer: boolean, logoutUrl?: string): string {
  if (!onServer && error.loginUrl && /^(https?:\/\/|\/)/i.test(error.loginUrl)) return error.loginUrl;
  if (!error.logoutUrl) return logoutUrl ?? "/api/logout";
  // What the answer's path leads on to is the provider's logout, which nobody has asked for here.
  const logout = logoutUrl ?? /^\/(?![/\\])[^?#]*/.exec(error.logoutUrl)?.[0] ?? "/api/logout";
  // The ticket says which session has died, so that a late answer never ends a newer one.
  const ticket = /[?&](ticket=[^&#]+)/.exec(answeredBy)?.[1];
  return ticket ? `${logout}?${ticket}` : logout;
}
