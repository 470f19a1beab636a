// urql and Apollo Client on a GraphQL API; its 401 names a code, as Apollo Server's does.
import { ApolloClient, gql, HttpLink, InMemoryCache } from "@apollo/client";
import { CombinedGraphQLErrors, ServerError } from "@apollo/client/errors";
import { Client, fetchExchange } from "@urql/core";
import { bearer, doDeeds, json, serve } from "./deeds.mjs";

const { port } = await serve((request, response) => {
  request.resume();
  const token = bearer(request.headers);
  if (token === "good") return json(response, 200, { data: { me: { id: token } } });
  const errors = [{ message: "Unauthorized", extensions: { code: "UNAUTHENTICATED" } }];
  json(response, 401, { errors });
});

const QUERY = "{ me { id } }";
const fetchAs = (cookie) => (url, init) =>
  fetch(url, { ...init, headers: { ...Object.fromEntries(new Headers(init.headers)), cookie } });

await doDeeds(port, {
  async urql({ url, cookie }) {
    const options = { url, exchanges: [fetchExchange], preferGetMethod: false };
    const client = new Client({ ...options, fetch: fetchAs(cookie) });
    const { data, error } = await client.query(QUERY, {}).toPromise();
    const codes = error?.graphQLErrors.map((one) => one.extensions.code);
    return { data: data ?? null, status: error?.response?.status ?? null, codes: codes ?? null };
  },
  async apollo({ url, cookie }) {
    const link = new HttpLink({ uri: url, fetch: fetchAs(cookie) });
    const client = new ApolloClient({ link, cache: new InMemoryCache() });
    const { data, error } = await client
      .query({ query: gql(QUERY), errorPolicy: "all" })
      .catch((error) => ({ data: null, error }));
    const errors = CombinedGraphQLErrors.is(error)
      ? error.errors
      : ServerError.is(error)
        ? JSON.parse(error.bodyText).errors
        : null;
    const status = ServerError.is(error) ? error.statusCode : null;
    const codes = errors?.map((one) => one.extensions.code) ?? null;
    return { data: data ?? null, status, codes };
  },
});
