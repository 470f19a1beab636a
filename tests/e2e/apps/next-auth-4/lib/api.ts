import { getServerSession } from "next-auth-4";
import { redirect } from "next/navigation";
import { options } from "@/auth";

export interface ApiResult<T> {
  isError: boolean;
  message: string | null;
  data: T | null;
  status: number;
  errorData: unknown;
}

export async function fetchApiProxy<T>(path: string, init: RequestInit = {}): Promise<ApiResult<T>> {
  const session = (await getServerSession(options)) as { accessToken?: string } | null;
  const headers = new Headers(init.headers);
  if (session?.accessToken) headers.set("Authorization", `Bearer ${session.accessToken}`);
  const response = await fetch(`${process.env.API_URL}${path}`, { ...init, headers });
  const body = await response.json().catch(() => null);
  if (response.status === 401 || body?.message === "UnAuthentication") redirect("/api/logout");
  return {
    isError: !response.ok,
    message: body?.message ?? null,
    data: response.ok ? (body?.data ?? null) : null,
    status: response.status,
    errorData: response.ok ? null : body,
  };
}
