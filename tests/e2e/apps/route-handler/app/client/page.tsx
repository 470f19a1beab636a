"use client";

import { useState } from "react";

export default function Client() {
  const [shown, setShown] = useState("");

  async function call(path: string, init?: RequestInit) {
    setShown("…");
    try {
      const response = await fetch(path, init);
      setShown(JSON.stringify(await response.json()));
    } catch (error) {
      setShown(String(error));
    }
  }

  const post = {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ text: "from the browser" }),
  };

  return (
    <main>
      <h1>Client</h1>
      <button onClick={() => call("/api/proxy/me")}>Get</button>
      <button onClick={() => call("/api/proxy/items", post)}>Post</button>
      <button onClick={() => call("/backend/me")}>Rewritten</button>
      <pre id="result">{shown}</pre>
    </main>
  );
}
