"use client";

import { useState, type FormEvent } from "react";

export default function Upload() {
  const [shown, setShown] = useState("");

  async function send(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const body = new FormData(event.currentTarget);
    setShown("…");
    try {
      const response = await fetch("/api/proxy/upload", { method: "POST", body });
      setShown(JSON.stringify(await response.json()));
    } catch (error) {
      setShown(String(error));
    }
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
