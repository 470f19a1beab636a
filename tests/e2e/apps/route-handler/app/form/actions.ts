"use server";

import { fetchApiProxy } from "@/lib/api";
import type { Item } from "@/lib/types";

export async function addItem(_: string, form: FormData): Promise<string> {
  const { data, isError, message } = await fetchApiProxy<Item>("/items", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ text: form.get("text") }),
  });
  return isError ? (message ?? "Error") : `Added ${data?.text}`;
}
