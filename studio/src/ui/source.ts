// The picture and the faces in it.
import type { Face, Faces } from "../api";
import { by, choose, make } from "./dom";

const SVG = "http://www.w3.org/2000/svg";

export class Source {
  private readonly figure = by("picture");
  private readonly image = by<HTMLImageElement>("picture-image");
  private readonly marks = by<SVGSVGElement>("marks");
  private readonly buttons = by("face-buttons");
  private found: Faces | null = null;
  private chosen = 0;

  constructor(private readonly faceChosen: (face: number) => void) {
    new ResizeObserver(() => this.place()).observe(this.figure);
  }

  show(picture: Blob): void {
    URL.revokeObjectURL(this.image.src);
    this.image.src = URL.createObjectURL(picture);
    this.figure.hidden = false;
    this.clear();
  }

  /** Draw the faces that were found, and let one be chosen where there are several. */
  mark(found: Faces): void {
    const chosen = found.chosen ?? 0;
    this.clear();
    this.found = found;
    this.chosen = chosen;
    this.marks.setAttribute("viewBox", `0 0 ${found.width} ${found.height}`);
    found.faces.forEach((face, number) => {
      const [x, y, width, height] = face.box;
      const rect = shape("rect", { x, y, width, height, rx: width / 12 });
      rect.classList.toggle("chosen", number === chosen);
      rect.classList.toggle("unusable", !usable(face));
      this.marks.append(rect);
    });
    const radius = (found.faces[chosen]?.box[2] ?? 0) / 140;
    for (const [x, y] of found.faces[chosen]?.landmarks ?? []) this.marks.append(shape("circle", { cx: x, cy: y, r: radius }));
    if (found.faces.length > 1) {
      this.buttons.replaceChildren(...found.faces.map((_, number) => make(
        "button", { onclick: () => this.faceChosen(number), title: `Take face ${number + 1}`, ariaLabel: `Face ${number + 1}` },
        make("span", { textContent: String(number + 1) }))));
      choose(this.buttons.children as Iterable<HTMLElement>, "aria-pressed", (button) => (
        button === this.buttons.children[chosen]));
    }
    by("faces-note").textContent = this.note();
    this.place();
  }

  /** Tell of what may spoil the head, beside what was found. */
  warn(warning: string): void {
    by("faces-note").textContent = `${this.found ? this.note() : ""} Careful: ${warning}.`.trim();
  }

  clear(): void {
    this.found = null;
    this.marks.replaceChildren();
    this.buttons.replaceChildren();
    by("faces-note").textContent = "\u00a0";
  }

  private note(): string {
    const { faces } = this.found!;
    const warning = faces[this.chosen]?.warnings[0];
    if (faces.length === 0) return "No face was found.";
    const found = faces.length === 1 ? "One face was found." : `${faces.length} faces were found. Click the one to take.`;
    return warning ? `${found} Careful: ${warning}.` : found;
  }

  // The picture is fitted into its frame, so the buttons over faces have to be laid out by hand.
  private place(): void {
    if (!this.found) return;
    const { width, height } = this.found;
    const scale = Math.min(this.figure.clientWidth / width, this.figure.clientHeight / height);
    const left = (this.figure.clientWidth - width * scale) / 2, top = (this.figure.clientHeight - height * scale) / 2;
    this.found.faces.forEach((face, number) => {
      const button = this.buttons.children[number] as HTMLElement | undefined;
      if (!button) return;
      const [x, y, across, down] = face.box.map((value) => value * scale) as [number, number, number, number];
      Object.assign(button.style, { left: `${left + x}px`, top: `${top + y}px`, width: `${across}px`, height: `${down}px` });
    });
  }
}

function usable(face: Face): boolean {
  return face.landmarks.length > 0;
}

function shape(name: string, attributes: Record<string, number>): SVGElement {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}
