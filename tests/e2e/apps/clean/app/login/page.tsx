import { AuthError } from "next-auth";
import { redirect } from "next/navigation";
import { auth, signIn } from "@/auth";

async function login(form: FormData) {
  "use server";
  try {
    await signIn("credentials", {
      name: form.get("name"),
      password: form.get("password"),
      redirectTo: "/dashboard",
    });
  } catch (error) {
    if (error instanceof AuthError) redirect("/login?error=1");
    throw error;
  }
}

interface Props {
  searchParams: Promise<{ error?: string }>;
}

export default async function Login({ searchParams }: Props) {
  if (await auth()) redirect("/dashboard");
  return (
    <form action={login}>
      <h1>Login</h1>
      {(await searchParams).error && <p role="alert">Wrong name or password</p>}
      <input name="name" placeholder="Name" />
      <input name="password" type="password" placeholder="Password" />
      <button>Log in</button>
    </form>
  );
}
