import { getServerSession } from "next-auth-4";
import { redirect } from "next/navigation";
import { options } from "@/auth";
import { fetchApiProxy } from "@/lib/api";

export default async function Dashboard() {
  if (!(await getServerSession(options))) redirect("/login");
  const { data, isError, message } = await fetchApiProxy<{ name: string }>("/me");
  return (
    <main>
      <h1>Dashboard</h1>
      {isError ? <p role="alert">{message}</p> : <p id="me">{data?.name}</p>}
    </main>
  );
}
