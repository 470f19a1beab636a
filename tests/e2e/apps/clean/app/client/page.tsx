"use client";

import { useState } from "react";
import { fetchApi, type FetchApiInit } from "@/lib/sidecar";

export default function Client() {
  const [shown, setShown] = useState("");

  async function call(path: string, init?: FetchApiInit) {
    setShown("…");
    setShown(JSON.stringify(await fetchApi(path, init)));
  }

  return (
    <main>
      <h1>Client</h1>
      <button onClick={() => call("/me")}>Get</button>
      <button onClick={() => call("/items", { json: { text: "from the browser" } })}>Post</button>
      <pre id="result">{shown}</pre>
    </main>
  );
}
