import NextAuth from "next-auth";
import Credentials from "next-auth/providers/credentials";

declare module "next-auth" {
  interface User {
    accessToken?: string;
    permissions?: string;
  }
}

export const { handlers, auth, signIn, signOut } = NextAuth({
  pages: { signIn: "/login" },
  providers: [
    Credentials({
      credentials: { name: {}, password: {} },
      async authorize(credentials) {
        const response = await fetch(`${process.env.SIDECAR_URL}/api/login`, {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify(credentials),
        });
        if (!response.ok) return null;
        const { data } = await response.json();
        return { id: data.name, ...data };
      },
    }),
  ],
  callbacks: {
    // For the sidecar alone: without a session callback, no page script can read it.
    jwt({ token, user }) {
      if (user) {
        token.accessToken = user.accessToken;
        token.permissions = user.permissions;
      }
      return token;
    },
  },
});
