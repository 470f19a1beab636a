import { ItemList } from "@/components/ItemList";

export default function LoadingPage() {
  return (
    <main>
      <h1>Loaded</h1>
      <ItemList />
    </main>
  );
}
