// The keys, as one table for the listener and for the help.
import { by, make } from "./dom";

export interface Key { keys: string[]; what: string; run: (key: string) => void }

export function startKeys(table: Key[]): void {
  const list = by("keys-list");
  for (const { keys, what } of table) {
    const names = keys.map((key) => make("kbd", { textContent: NAMES[key] ?? key.toUpperCase() }));
    list.append(make("dt", {}, ...names.flatMap((name) => [name, " "])), make("dd", { textContent: what }));
  }
  const actions = new Map(table.flatMap((entry) => entry.keys.map((key) => [key, entry] as const)));
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || by<HTMLDialogElement>("keys").open) return;
    const key = ALIKE[event.key] ?? (event.key.length === 1 ? event.key.toLowerCase() : event.key);
    const entry = actions.get(key);
    const target = event.target as HTMLElement;
    if (!entry || target.matches("select, textarea, input:not([type=range], [type=checkbox])")) return;
    const arrows = event.key.startsWith("Arrow");
    if (arrows && !by("view").contains(target) && target !== document.body) return; // they belong to a slider or a tab
    event.preventDefault();
    entry.run(key);
  });
}

const NAMES: Record<string, string> = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc" };
const ALIKE: Record<string, string> = { "=": "+", _: "-" }; // the same key with and without Shift
