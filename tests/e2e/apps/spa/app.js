"use strict";

const $ = (id) => document.getElementById(id);

async function call(path, init) {
  const response = await fetch(`/api${path}`, init);
  return response.json();
}

/** Calls, shows what came, and goes to the login where the session has ended. */
async function show(path, init) {
  $("result").textContent = "…";
  let result;
  try {
    result = await call(path, init);
  } catch (error) {
    result = String(error);
  }
  $("result").textContent = JSON.stringify(result);
  return result;
}

const json = (method, value) => ({
  method,
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(value),
});

$("login").onsubmit = async (event) => {
  event.preventDefault();
  const result = await call("/login", json("POST", Object.fromEntries(new FormData($("login")))));
  if (result.isError) $("fault").textContent = result.message;
  else location.assign("/");
};

$("get").onclick = () => show("/me");
$("post").onclick = () => show("/items", json("POST", { text: "from the browser" }));
$("send").onclick = () => {
  const body = new FormData();
  body.append("file", $("file").files[0]);
  return show("/upload", { method: "POST", body });
};

$("listen").onclick = () => {
  const source = new EventSource("/api/events");
  source.onopen = () => ($("state").textContent = "open");
  source.onmessage = (event) => ($("last").textContent = event.data);
  source.onerror = () =>
    ($("state").textContent =
      source.readyState === EventSource.CLOSED ? "closed" : "reconnecting");
};

$("connect").onclick = () => {
  const socket = new WebSocket(`${location.origin.replace("http", "ws")}/api/socket`);
  socket.onopen = () => ($("state").textContent = "open");
  socket.onmessage = (event) => ($("last").textContent = event.data);
  socket.onclose = (event) => ($("state").textContent = `closed ${event.code}`);
};

async function start() {
  if (location.pathname === "/login") {
    $("login").hidden = false;
    return;
  }
  const me = await call("/me");
  if (me.status === 401) location.assign(me.errorData.loginUrl ?? "/login");
  $("app").hidden = false;
  $("me").textContent = me.data?.name ?? me.message;
}

start();
