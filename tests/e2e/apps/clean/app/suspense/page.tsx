import { connection } from "next/server";
import { Suspense } from "react";
import { ItemList } from "@/components/ItemList";

export default async function SuspensePage() {
  await connection();
  return (
    <main>
      <h1>Suspense</h1>
      <Suspense fallback={<p>Loading…</p>}>
        <ItemList />
      </Suspense>
    </main>
  );
}
