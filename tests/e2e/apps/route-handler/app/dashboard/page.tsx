import Link from "next/link";
import { redirect } from "next/navigation";
import { auth, signOut } from "@/auth";
import { fetchApiProxy } from "@/lib/api";
import type { Me } from "@/lib/types";

async function leave() {
  "use server";
  await signOut({ redirectTo: "/login" });
}

export default async function Dashboard() {
  if (!(await auth())) redirect("/login");
  const { data, isError, message } = await fetchApiProxy<Me>("/me");
  return (
    <main>
      <h1>Dashboard</h1>
      {isError ? <p role="alert">{message}</p> : <p id="me">{data?.name}</p>}
      <nav>
        <Link href="/items">Items</Link> <Link href="/loading">Loading</Link>
      </nav>
      <form action={leave}>
        <button>Sign out</button>
      </form>
    </main>
  );
}
