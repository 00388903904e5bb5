// Ways of a file onto the page: drop it anywhere, paste it, choose it.
import { by } from "./dom";

/** `given` hears of every file; a scan is told from a picture by its name. */
export function startInputs(given: (file: File, isScan: boolean) => void): void {
  const take = (file: File | undefined): void => {
    if (file) given(file, SCAN.test(file.name));
  };
  for (const id of ["file-picture", "file-scan"]) {
    const input = by<HTMLInputElement>(id);
    input.addEventListener("change", () => {
      take(input.files?.[0]);
      input.value = ""; // the same file may be chosen again
    });
  }
  let depth = 0; // of dragenter, which every element below sends
  const over = (change: number): void => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("over", depth > 0);
  };
  addEventListener("dragenter", () => over(1));
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(-depth);
    take(event.dataTransfer?.files[0]);
  });
  addEventListener("paste", (event) => take(event.clipboardData?.files[0]));
}

const SCAN = /\.(ply|obj|glb|gltf|stl|off|npz)$/i;
