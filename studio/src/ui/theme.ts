// Dark or light: as the system, until somebody chooses.
import { by } from "./dom";

const KEY = "topos-studio-theme";
const system = matchMedia("(prefers-color-scheme: light)");

export function startTheme(changed: () => void): void {
  const apply = (): void => {
    document.documentElement.dataset.theme = chosen() ?? (system.matches ? "light" : "dark");
    changed();
  };
  system.addEventListener("change", apply);
  by("theme").addEventListener("click", () => {
    const next = isDark() ? "light" : "dark";
    try {
      localStorage.setItem(KEY, next);
    } catch {
      // A browser without storage forgets the choice with the page.
    }
    document.documentElement.dataset.theme = next;
    changed();
  });
  apply();
}

export function isDark(): boolean {
  return document.documentElement.dataset.theme !== "light";
}

function chosen(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}
