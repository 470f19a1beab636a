import { cookies } from "next/headers";
import { redirect } from "next/navigation";
import { signOut } from "@/auth";

export async function GET() {
  const jar = await cookies();
  for (const name of ["authjs.session-token", "next-auth.session-token", "access_token"]) {
    jar.delete(name);
  }
  await signOut({ redirect: false });
  redirect("/login");
}
