import Link from "next/link";
import { redirect } from "next/navigation";
import { auth } from "@/auth";
import { fetchApi } from "@/lib/api";
import type { Me } from "@/lib/types";

export default async function Dashboard() {
  if (!(await auth())) redirect("/login");
  const me = await fetchApi<Me>("/me");
  return (
    <main>
      <h1>Dashboard</h1>
      {me.isError ? <p role="alert">{me.message}</p> : <p id="me">{me.data.name}</p>}
      <nav>
        <Link href="/items">Items</Link> <Link href="/loading">Loading</Link>
      </nav>
      <form method="post" action="/api/logout">
        <button>Sign out</button>
      </form>
    </main>
  );
}
