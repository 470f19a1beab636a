import type { NextAuthOptions } from "next-auth-4";
import Credentials from "next-auth-4/providers/credentials";

export const options: NextAuthOptions = {
  pages: { signIn: "/login" },
  session: { strategy: "jwt" },
  providers: [
    Credentials({
      credentials: { name: {}, password: {} },
      async authorize(credentials) {
        const response = await fetch(`${process.env.API_URL}/login`, {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify({ name: credentials?.name, password: credentials?.password }),
        });
        if (!response.ok) return null;
        const { data } = await response.json();
        return { id: data.name, ...data };
      },
    }),
  ],
  callbacks: {
    jwt({ token, user }) {
      return user ? { ...token, ...user } : token;
    },
    session({ session, token }) {
      return { ...session, accessToken: token.accessToken };
    },
  },
};
