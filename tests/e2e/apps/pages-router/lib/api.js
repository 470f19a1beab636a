// On the server: the call goes to the sidecar, with the cookies that came.
export async function fetchApi(req, path) {
  const response = await fetch(process.env.API_URL + path, {
    headers: { cookie: req.headers.cookie ?? "" },
  });
  return response.json();
}
