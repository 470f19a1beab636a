import type { NextRequest } from "next/server";
import { fetchApiProxy } from "@/lib/api";

interface Context {
  params: Promise<{ path: string[] }>;
}

async function handler(request: NextRequest, { params }: Context) {
  const { path } = await params;
  const result = await fetchApiProxy(`/${path.join("/")}${request.nextUrl.search}`, {
    method: request.method,
    headers: { "Content-Type": request.headers.get("Content-Type") ?? "application/json" },
    body: request.method === "GET" ? undefined : await request.arrayBuffer(),
  });
  return Response.json(result, { status: result.status });
}

export { handler as GET, handler as POST };
