import Link from "next/link";
import { fetchApi } from "../lib/api";

export const getServerSideProps = async ({ req }) => ({ props: await fetchApi(req, "/items") });

export default function Items({ data, isError, message }) {
  return (
    <main>
      <h1>Items</h1>
      {isError ? <p role="alert">{message}</p> : <p id="count">{data.length}</p>}
      <Link href="/dashboard" prefetch={false}>
        Dashboard
      </Link>
    </main>
  );
}
