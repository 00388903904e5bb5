// The files of a head.
import { bytes, type HeadInfo } from "../api";
import { by, make } from "./dom";
import { showError } from "./messages";

// Link -> the words on the button, the end of the file's name, and what is in it.
const FILES: [link: string, title: string, ending: string, about: string][] = [
  ["glb", "GLB", ".glb", "with skin, sliders and skeleton, for engines and browsers"],
  ["usd", "USD", "-usd.zip", "with skin, sliders and skeleton, zipped with its textures"],
  ["obj", "OBJ", "-obj.zip", "the mesh, zipped with its materials and textures"],
  ["ply", "PLY", ".ply", "the mesh alone"],
  ["textures", "Textures", "-textures.zip", "the pictures of the skin, zipped"],
  ["png", "Picture", ".png", "views of the head"],
];

/** Offer the files of a head, or of none. */
export function offerFiles(head: HeadInfo | null, level: number): void {
  by("downloads").replaceChildren(...FILES.filter(([link]) => !head || head.links[link]).map(([link, title, ending, about]) => {
    const anchor = make("a", { textContent: title, title: about, ariaLabel: `Download ${title}: ${about}` });
    if (!head) {
      anchor.setAttribute("aria-disabled", "true");
      return anchor;
    }
    const address = link === "png" ? head.links[link]! : withLevel(head.links[link]!, level);
    anchor.href = address;
    anchor.download = `head${head.seed ?? ""}${level ? `-lod${level}` : ""}${ending}`;
    anchor.addEventListener("click", (event) => {
      event.preventDefault();
      void save(address, anchor.download);
    });
    return anchor;
  }));
}

/** Return a link to a level of detail. */
export function withLevel(link: string, level: number): string {
  const address = new URL(link, document.baseURI);
  if (level) address.searchParams.set("lod", String(level));
  return address.href;
}

// Fetched first, so that an error is told here and not saved as a file.
async function save(address: string, name: string): Promise<void> {
  try {
    const url = URL.createObjectURL(new Blob([await bytes(address)]));
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  } catch (error) {
    showError(error);
  }
}
