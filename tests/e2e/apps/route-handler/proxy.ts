import { NextResponse, type NextRequest } from "next/server";

// What next.config's rewrites do, with the API's address read when the server starts.
export function proxy(request: NextRequest) {
  const path = request.nextUrl.pathname.replace("/backend", "");
  return NextResponse.rewrite(`${process.env.API_URL}${path}${request.nextUrl.search}`);
}

export const config = { matcher: "/backend/:path*" };
