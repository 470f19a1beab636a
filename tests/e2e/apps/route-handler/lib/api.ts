import { redirect } from "next/navigation";
import { auth } from "@/auth";

export interface ApiResult<T> {
  isError: boolean;
  message: string | null;
  data: T | null;
  status: number;
  errorData: unknown;
}

export async function fetchApi<T>(path: string, init: RequestInit = {}): Promise<ApiResult<T>> {
  const session = await auth();
  const headers = new Headers(init.headers);
  if (session?.accessToken) headers.set("Authorization", `Bearer ${session.accessToken}`);
  try {
    const response = await fetch(`${process.env.API_URL}${path}`, { ...init, headers });
    const body = await response.json().catch(() => null);
    return {
      isError: !response.ok,
      message: body?.message ?? null,
      data: response.ok ? (body?.data ?? null) : null,
      status: response.status,
      errorData: response.ok ? null : body,
    };
  } catch {
    return { isError: true, message: "Network error", data: null, status: 0, errorData: null };
  }
}

/** As `fetchApi`; where the API no longer accepts the token, the user is logged out. */
export async function fetchApiProxy<T>(path: string, init?: RequestInit): Promise<ApiResult<T>> {
  const result = await fetchApi<T>(path, init);
  if (result.status === 401 || result.message === "UnAuthentication") redirect("/api/logout");
  return result;
}
