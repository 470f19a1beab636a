"use client";

import { signIn } from "next-auth-4/react";
import type { FormEvent } from "react";

export function LoginForm() {
  async function login(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = Object.fromEntries(new FormData(event.currentTarget));
    await signIn("credentials", { ...form, callbackUrl: "/dashboard" });
  }

  return (
    <form onSubmit={login}>
      <h1>Login</h1>
      <input name="name" placeholder="Name" />
      <input name="password" type="password" placeholder="Password" />
      <button>Log in</button>
    </form>
  );
}
