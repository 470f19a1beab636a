import { ItemList } from "@/components/ItemList";

export default function Items() {
  return (
    <main>
      <h1>Items</h1>
      <ItemList />
    </main>
  );
}
