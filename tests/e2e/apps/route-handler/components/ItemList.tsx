import { fetchApiProxy } from "@/lib/api";
import type { Item } from "@/lib/types";

export async function ItemList() {
  const { data, isError, message } = await fetchApiProxy<Item[]>("/items");
  if (isError) return <p role="alert">{message}</p>;
  return (
    <ul>
      {data?.map((item) => (
        <li key={item.id}>{item.text}</li>
      ))}
    </ul>
  );
}
