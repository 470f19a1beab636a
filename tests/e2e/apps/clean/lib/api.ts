import { headers } from "next/headers";
import { redirect } from "next/navigation";
import { createFetchApi } from "./sidecar";

// For the server side; client components take fetchApi from lib/sidecar.
export const fetchApi = createFetchApi({
  baseUrl: `${process.env.SIDECAR_URL}/api`,
  cookie: async () => (await headers()).get("cookie"),
  redirect,
});
