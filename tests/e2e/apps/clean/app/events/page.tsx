"use client";

import { useEffect, useState } from "react";

export default function Events() {
  const [last, setLast] = useState("");
  const [state, setState] = useState("connecting");

  useEffect(() => {
    const source = new EventSource("/api/events");
    source.onopen = () => setState("open");
    source.onmessage = (event) => setLast(event.data);
    source.onerror = () =>
      setState(source.readyState === EventSource.CLOSED ? "closed" : "reconnecting");
    return () => source.close();
  }, []);

  return (
    <main>
      <h1>Events</h1>
      <p id="state">{state}</p>
      <p id="last">{last}</p>
    </main>
  );
}
