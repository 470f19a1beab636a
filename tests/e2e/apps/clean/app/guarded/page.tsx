import { fetchApi } from "@/lib/api";
import type { Me } from "@/lib/types";

export default async function Guarded() {
  let shown: string;
  try {
    const { data } = await fetchApi<Me>("/me");
    shown = `Hello ${data?.name}`;
  } catch {
    shown = "Something went wrong";
  }
  return (
    <main>
      <h1>Guarded</h1>
      <p id="result">{shown}</p>
    </main>
  );
}
