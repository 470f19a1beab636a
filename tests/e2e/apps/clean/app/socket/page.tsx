"use client";

import { useEffect, useState } from "react";

export default function Socket() {
  const [last, setLast] = useState("");
  const [state, setState] = useState("connecting");

  useEffect(() => {
    const socket = new WebSocket(`${location.origin.replace("http", "ws")}/api/socket`);
    socket.onopen = () => setState("open");
    socket.onmessage = (event) => setLast(event.data);
    socket.onclose = (event) => setState(`closed ${event.code}`);
    return () => socket.close();
  }, []);

  return (
    <main>
      <h1>Socket</h1>
      <p id="state">{state}</p>
      <p id="last">{last}</p>
    </main>
  );
}
