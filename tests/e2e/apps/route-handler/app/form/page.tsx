"use client";

import { useActionState } from "react";
import { addItem } from "./actions";

export default function Form() {
  const [told, action] = useActionState(addItem, "");
  return (
    <form action={action}>
      <h1>New item</h1>
      <input name="text" placeholder="Text" />
      <button>Add</button>
      <p id="result">{told}</p>
    </form>
  );
}
