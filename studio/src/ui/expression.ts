// The sliders and the ready expressions.
import { EXPRESSIONS, GROUPS, label, partner } from "../shapes";
import { by, make } from "./dom";

interface Slider { row: HTMLLabelElement; input: HTMLInputElement; output: HTMLOutputElement }

export class Expression {
  private readonly sliders = new Map<string, Slider>();
  private readonly photograph: HTMLButtonElement;
  private readonly counts = new Map<string, HTMLElement>();

  /** `changed` hears of the weights after every change; atOnce, where the hand is on a slider. */
  constructor(
    private readonly changed: (weights: Record<string, number>, atOnce: boolean) => void,
    private readonly inPhotograph: () => Record<string, number>,
  ) {
    const presets = by("presets");
    for (const { title, weights } of EXPRESSIONS) {
      presets.append(make("button", { textContent: title, onclick: () => this.set(weights) }));
    }
    this.photograph = make("button", {
      textContent: "As in the photograph", className: "photograph", disabled: true, title: "P",
      onclick: () => this.set(this.inPhotograph()),
    });
    presets.append(this.photograph);
    for (const { title, shapes } of GROUPS) {
      const count = make("small");
      this.counts.set(title, count);
      const details = make("details", { open: true }, make("summary", {}, title, count));
      for (const shape of shapes) details.append(this.slider(shape));
      by("sliders").append(details);
    }
    this.counted();
  }

  get weights(): Record<string, number> {
    const entries = [...this.sliders].map(([shape, { input }]) => [shape, Number(input.value)] as const);
    return Object.fromEntries(entries.filter(([, weight]) => weight > 0));
  }

  /** Move all sliders, and the head with them. */
  set(weights: Record<string, number>, atOnce = false): void {
    this.show(weights);
    this.changed(this.weights, atOnce);
  }

  /** Move the sliders alone. */
  show(weights: Record<string, number>): void {
    for (const [shape, slider] of this.sliders) this.write(slider, weights[shape] ?? 0);
    this.counted();
  }

  /** Take the shapes that the head has; the others cannot be moved. */
  offer(shapes: Iterable<string>): void {
    const known = new Set(shapes);
    for (const [shape, { row, input }] of this.sliders) {
      input.disabled = known.size > 0 && !known.has(shape);
      row.classList.toggle("missing", input.disabled);
    }
    this.photograph.disabled = Object.keys(this.inPhotograph()).length === 0;
  }

  private slider(shape: string): HTMLLabelElement {
    const input = make("input", { type: "range", min: "0", max: "1", step: "0.01", value: "0", id: `shape-${shape}` });
    const output = make("output", { htmlFor: input.id, textContent: "0" } as unknown as Partial<HTMLOutputElement>);
    const row = make("label", { className: "slider", title: shape }, make("span", { textContent: label(shape) }), input, output);
    this.sliders.set(shape, { row, input, output });
    input.addEventListener("input", () => this.moved(shape));
    input.addEventListener("dblclick", () => {
      input.value = "0";
      this.moved(shape);
    });
    return row;
  }

  private moved(shape: string): void {
    const slider = this.sliders.get(shape)!;
    const weight = Number(slider.input.value);
    this.write(slider, weight);
    const other = this.sliders.get(partner(shape) ?? "");
    if (other && by<HTMLInputElement>("both").checked) this.write(other, weight);
    this.counted();
    this.changed(this.weights, true);
  }

  private write({ row, input, output }: Slider, weight: number): void {
    input.value = String(weight); // which rounds it
    output.textContent = Number(input.value) ? Number(input.value).toFixed(2) : "0";
    row.classList.toggle("set", Number(input.value) > 0);
  }

  private counted(): void {
    for (const { title, shapes } of GROUPS) {
      const count = shapes.filter((shape) => Number(this.sliders.get(shape)!.input.value) > 0).length;
      this.counts.get(title)!.textContent = count ? `${count} of ${shapes.length}` : "";
    }
  }
}
