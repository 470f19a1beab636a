import { getServerSession } from "next-auth-4";
import { redirect } from "next/navigation";
import { options } from "@/auth";
import { LoginForm } from "./LoginForm";

export default async function Login() {
  if (await getServerSession(options)) redirect("/dashboard");
  return <LoginForm />;
}
