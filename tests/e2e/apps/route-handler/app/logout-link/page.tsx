import Link from "next/link";

export default function LogoutLink() {
  return (
    <main>
      <h1>Account</h1>
      <Link href="/api/logout">Log out</Link>
    </main>
  );
}
