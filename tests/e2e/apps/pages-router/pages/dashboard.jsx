import Link from "next/link";
import { fetchApi } from "../lib/api";

export const getServerSideProps = async ({ req }) => ({ props: await fetchApi(req, "/me") });

export default function Dashboard({ data, isError, message }) {
  return (
    <main>
      <h1>Dashboard</h1>
      {isError ? <p role="alert">{message}</p> : <p id="me">{data.name}</p>}
      <Link href="/items" prefetch={false}>
        Items
      </Link>
    </main>
  );
}
