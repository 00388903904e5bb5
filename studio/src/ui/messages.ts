// What the page tells: errors, which stay until they are closed, the state of the work, and its progress.
import { Failure } from "../api";
import { by } from "./dom";

const OPTIONS = / \([^)]*(--|=)[^)]*\)/g; // what a fix calls them on the command line and in Python

export function showError(error: unknown): void {
  if (error instanceof DOMException && error.name === "AbortError") return;
  const problem = error instanceof Failure ? error.problem : { title: "Something went wrong", detail: String(error) };
  const detail = problem.detail && problem.detail !== problem.title ? withoutFix(problem.detail, problem.fix) : "";
  by("alert-title").textContent = problem.title;
  by("alert-detail").textContent = sentence(detail);
  by("alert-fix").textContent = sentence((problem.fix ?? "").replace(OPTIONS, ""));
  by("alert").hidden = false;
}

export function hideError(): void {
  by("alert").hidden = true;
}

/** Tell the state of the work; aloud, to screen readers, too. */
export function say(text: string, aloud = true): void {
  by("status").textContent = text;
  if (aloud) by("aloud").textContent = text;
}

/** Show how much is done, 0 to 1; null hides the bar. */
export function progress(share: number | null): void {
  const bar = by("progress");
  bar.hidden = share === null;
  bar.setAttribute("aria-valuenow", String(Math.round((share ?? 0) * 100)));
  (bar.firstElementChild as HTMLElement).style.width = `${(share ?? 0) * 100}%`;
}

/** Say in place of the stage why there is none. */
export function blockStage(title: string, detail: string): void {
  const place = by("blocked");
  place.replaceChildren(
    Object.assign(document.createElement("strong"), { textContent: title }),
    Object.assign(document.createElement("span"), { textContent: detail }),
  );
  place.hidden = false;
  by("empty").hidden = true;
}

// The server's detail is one line that ends with the fix, which has a line of its own here.
function withoutFix(detail: string, fix: string | null | undefined): string {
  return fix ? detail.replace(`; fix: ${fix}`, "") : detail;
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
