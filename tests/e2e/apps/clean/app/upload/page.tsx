"use client";

import { useState, type FormEvent } from "react";
import { fetchApi } from "@/lib/sidecar";

export default function Upload() {
  const [shown, setShown] = useState("");

  async function send(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const body = new FormData(event.currentTarget);
    setShown("…");
    setShown(JSON.stringify(await fetchApi("/upload", { method: "POST", body })));
  }

  return (
    <form onSubmit={send}>
      <h1>Upload</h1>
      <input type="file" name="file" />
      <button>Send</button>
      <pre id="result">{shown}</pre>
    </form>
  );
}
