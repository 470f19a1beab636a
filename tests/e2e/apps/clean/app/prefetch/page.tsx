import Link from "next/link";
import { connection } from "next/server";

export default async function Prefetch() {
  await connection();
  return (
    <main>
      <h1>Prefetch</h1>
      <Link href="/items" prefetch={true}>
        Items
      </Link>
    </main>
  );
}
