"use server";

import { fetchApi } from "@/lib/api";
import type { Item } from "@/lib/types";

export async function addItem(_: string, form: FormData): Promise<string> {
  const { data, isError, message } = await fetchApi<Item>("/items", {
    json: { text: form.get("text") },
  });
  return isError ? message : `Added ${data.text}`;
}
