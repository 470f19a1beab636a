// Sessions of h3, which nuxt-auth-utils (h3 1) and TanStack Start (h3 2) use as they are; an API besides.
import { bearer, doDeeds, json, serve } from "./deeds.mjs";

const { library, password } = JSON.parse(process.argv[2]);
const h3 = await import(library);
const config = { name: "nuxt-session", password };
const data = (token) => ({ user: { name: "Zoë" }, secure: { accessToken: token }, loggedInAt: 1 });

/** The session's data, after the token was put into it if there is one. */
async function page(event) {
  const session = await h3.useSession(event, config);
  const token = new URL(event.node?.req.url ?? event.req.url, "http://here").searchParams.get("token");
  if (token !== null) await session.update(data(token));
  return session.data;
}
let pages;
if (library === "h3") {
  const app = h3.createApp();
  app.use("/page", h3.eventHandler(page));
  pages = h3.toNodeListener(app);
} else {
  pages = (await import("h3-2/node")).toNodeHandler(new h3.H3().get("/page", page));
}
const { port } = await serve((request, response) => {
  if (request.url.startsWith("/page")) return pages(request, response);
  json(response, 200, { data: bearer(request.headers) });
});
await doDeeds(port, {});
