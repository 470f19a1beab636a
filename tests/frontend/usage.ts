// What the types promise. A line under `@ts-expect-error` that compiles fails the compilation.
import {
  createFetchApi,
  fetchApi,
  isSessionError,
  isSidecarError,
  type Envelope,
  type FetchApi,
  type SessionCode,
  type SidecarCode,
  type SidecarError,
} from "./sidecar.js";

interface User {
  name: string;
}
interface Problem {
  fields: string[];
}

type Same<A, B> = (<X>() => X extends A ? 1 : 2) extends <X>() => X extends B ? 1 : 2 ? true : false;
function same<A, B>(_same: Same<A, B>): void {}

export async function narrowsOnIsError(): Promise<string> {
  const r = await fetchApi<User, Problem>("/me");
  // @ts-expect-error: not before `isError` was asked
  r.data.name;
  if (r.isError) {
    same<typeof r.data, null>(true);
    same<typeof r.errorData, Problem | SidecarError | null>(true);
    same<typeof r.message, string>(true);
    return r.message;
  }
  same<typeof r.data, User>(true);
  same<typeof r.errorData, null>(true);
  same<typeof r.message, string | null>(true);
  return r.data.name;
}

export function hasFiveMembers(r: Envelope<User, Problem>): void {
  same<keyof typeof r, "isError" | "message" | "data" | "status" | "errorData">(true);
  same<typeof r.status, number>(true);
  same<Same<User, Problem>, false>(true);
}

export async function tellsErrorsApart(): Promise<string | undefined> {
  const r = await fetchApi<User, Problem>("/me");
  if (isSessionError(r)) {
    same<typeof r.errorData.code, SessionCode>(true);
    return r.errorData.loginUrl;
  }
  if (!r.isError) {
    return r.data.name;
  }
  if (isSidecarError(r.errorData)) {
    same<typeof r.errorData.code, SidecarCode>(true);
    return r.errorData.requestId;
  }
  same<typeof r.errorData, Problem | null>(true);
  return r.errorData?.fields[0];
}

export async function needsNoTypes(): Promise<unknown> {
  const r = await fetchApi("/me");
  if (!r.isError) {
    same<typeof r.data, unknown>(true);
    return r.data;
  }
  // @ts-expect-error: not before it is known whose it is
  r.errorData.code;
  return isSidecarError(r.errorData) ? r.errorData.code : null;
}

export function knowsItsCodes(error: SidecarError): boolean {
  // @ts-expect-error: no such code
  return error.code === "session_expird";
}

export function takesWhatFetchTakes(signal: AbortSignal): Promise<Envelope<User | null>> {
  void fetchApi("/me", { method: "PUT", json: { a: 1 }, signal, headers: { "x-a": "1" }, keepalive: true });
  // @ts-expect-error: no such option
  void fetchApi("/me", { jsno: 1 });
  return fetchApi<User | null>("/me", { method: "DELETE" });
}

function throwing(url: string): never {
  throw new Error(url);
}

export const made: FetchApi[] = [
  createFetchApi(),
  createFetchApi({ baseUrl: "https://api.example.com/api", fetch }),
  createFetchApi({ cookie: () => null, redirect: throwing }),
  createFetchApi({ cookie: () => Promise.resolve(undefined), redirect: async () => undefined }),
  // @ts-expect-error: the header's value, not an object
  createFetchApi({ cookie: () => ({ a: "b" }) }),
];
