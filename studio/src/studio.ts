// The page's state, and what happens when: a picture or a scan comes in, heads grow, one of them is chosen.
import {
  bytes, Failure, models, retopologize, type HeadInfo, type Model,
} from "./api";
import { makeHeads } from "./stream";
import { surfaceOf } from "./topology";
import { by, choose, make } from "./ui/dom";
import { offerFiles, withLevel } from "./ui/downloads";
import { Expression } from "./ui/expression";
import { hideError, progress, say, showError } from "./ui/messages";
import { Source } from "./ui/source";
import { isDark } from "./ui/theme";
import { HeadView, type Look, type Pose } from "./view/head";
import type { Stage } from "./view/stage";
import type { Surface } from "./view/surface";
import { drawUvs } from "./view/uv";

const SCANNED = "The head has the model’s topology, sliders and UVs, and the scan’s place and size.";
const AT_REST: Pose = { yaw: 0, pitch: 0, roll: 0 };

export class Studio {
  heads: HeadView[] = [];
  chosen = 0;
  /** Milliseconds from the click to the first estimate, and to the last head on the screen. */
  times: { preview?: number; head?: number } = {};
  readonly expression: Expression;
  private readonly source: Source;
  private readonly still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  private model: Model | null = null;
  private surface: Surface | null = null;
  private picture: Blob | null = null;
  private face: number | "largest" = "largest";
  private look: Look | "uv" = "skin";
  private job: AbortController | null = null;

  constructor(readonly stage: Stage | null) {
    this.expression = new Expression(
      (weights, atOnce) => this.act(weights, atOnce), () => this.active?.info?.expression ?? {});
    this.source = new Source((face) => {
      this.face = face;
      void this.make();
    });
    offerFiles(null, 0);
  }

  get active(): HeadView | null {
    return this.heads[this.chosen] ?? null;
  }

  get busy(): boolean {
    return this.job !== null;
  }

  /** Load what the page needs to know of the model; the server may still be loading it. */
  async start(): Promise<void> {
    for (let wait = 250; !this.model; wait = Math.min(2000, wait * 1.5)) {
      try {
        [this.model = null] = await models();
        if (!this.model) throw new Failure({ title: "The studio has no model" });
      } catch (error) {
        if (!(error instanceof Failure && error.problem.status === 503)) throw error;
        say("The model is loading …");
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
    const { presets, topology, lods } = this.model;
    by("preset").replaceChildren(...presets.map(({ name, steps }) => make(
      "option", { value: name, textContent: `${name}, ${steps} steps`, selected: name === "balanced" })));
    by("lod").replaceChildren(...Array.from({ length: lods }, (_, level) => make(
      "option", { value: String(level), textContent: level ? `1/${2 ** level}` : "full" })));
    this.surface = await surfaceOf(topology);
    say("");
    this.offerMake();
    if (this.picture) void this.make(); // it came before the model
  }

  use(picture: Blob): void {
    this.picture = picture;
    this.face = "largest";
    this.expression.set({}); // the one of another face would tell nothing of this one
    this.source.show(picture);
    by("frame").classList.add("filled");
    void this.make();
  }

  /** Make heads of the picture, one for each seed, in place of those on the stage. */
  async make(): Promise<void> {
    const { picture, surface } = this;
    if (!picture || !surface) return; // `start` goes on
    this.job?.abort();
    const job = new AbortController();
    this.job = job;
    const count = Number(by<HTMLSelectElement>("seeds").value);
    const seeds = Array.from({ length: count }, (_, seed) => seed);
    const options = {
      preset: by<HTMLSelectElement>("preset").value, face: this.face,
      texture: by<HTMLInputElement>("texture").checked ? null : "none",
      face_check: by<HTMLInputElement>("face-check").checked,
    };
    const heads = seeds.map((seed) => new HeadView(seed, this.still));
    const loading: Promise<void>[] = [];
    const began = performance.now();
    this.times = {};
    hideError();
    progress(0);
    say("Looking for faces …");
    this.offerMake();
    try {
      await makeHeads(picture, seeds, options, {
        queued: (ahead) => say(ahead ? `Waiting behind ${ahead} others …` : "Looking for faces …"),
        faces: (found) => this.source.mark(found),
        preview: (seed, step, steps, positions) => {
          const number = seeds.indexOf(seed);
          if (this.heads !== heads) this.enter(heads);
          heads[number]?.grow(positions, surface, performance.now());
          this.times.preview ??= performance.now() - began;
          this.stage?.draw();
          progress((number + step / (steps + 1)) / count);
          say(`${count > 1 ? `Seed ${seed}, step` : "Step"} ${step} of ${steps}`, false);
        },
        head: (info) => {
          if (this.heads !== heads) this.enter(heads);
          const head = heads[seeds.indexOf(info.seed ?? 0)];
          if (head) loading.push(this.fetch(head, info));
        },
      }, job.signal);
      await Promise.all(loading);
      this.times.head = performance.now() - began;
      this.told();
      const [warning] = this.active?.info?.warnings ?? [];
      if (warning) this.source.warn(warning);
    } catch (error) {
      if (this.job === job) say("");
      showError(error);
    } finally {
      this.ended(job);
    }
  }

  private ended(job: AbortController): void {
    if (this.job !== job) return;
    this.job = null;
    progress(null);
    this.offerMake();
  }

  /** Lay the model's topology over a scan. */
  async scan(file: File): Promise<void> {
    this.job?.abort();
    const job = new AbortController();
    this.job = job;
    this.times = {};
    hideError();
    progress(0.3);
    say(`Laying a head over ${file.name} …`);
    try {
      const info = await retopologize(file, {
        align: String(by<HTMLInputElement>("align").checked), units: by<HTMLSelectElement>("scan-units").value,
      }, job.signal);
      const head = new HeadView(info.seed, this.still);
      await head.load(await bytes(info.links.glb ?? ""));
      head.info = info;
      this.enter([head]);
      this.told();
      by("scan-note").textContent = info.warnings.length ? `Careful: ${info.warnings.join("; ")}.` : SCANNED;
    } catch (error) {
      say("");
      showError(error);
    } finally {
      this.ended(job);
    }
  }

  cancel(): void {
    this.job?.abort();
  }

  /** Move the heads; the mirror sends poses, too. */
  act(weights: Record<string, number>, atOnce: boolean, pose?: Pose): void {
    for (const head of this.heads) {
      head.setShapes(weights, atOnce);
      if (pose) head.setPose(pose);
    }
    this.stage?.draw();
  }

  rest(): void {
    this.act({}, false, AT_REST);
    this.expression.show({});
  }

  setLook(look: Look | "uv"): void {
    this.look = look;
    choose(document.querySelectorAll<HTMLElement>("[data-look]"), "aria-pressed", (button) => button.dataset.look === look);
    const flat = look === "uv" && this.active?.skin;
    by("flat").hidden = !flat;
    if (flat) drawUvs(by<HTMLCanvasElement>("uv"), this.active!, isDark());
    if (look !== "uv") for (const head of this.heads) head.setLook(look);
    this.stage?.draw();
  }

  /** Show what depends on the theme or the window anew. */
  redraw(): void {
    this.setLook(this.look);
  }

  async setLevel(level: number): Promise<void> {
    try {
      await Promise.all(this.heads.map(async (head) => {
        if (head.info && head.level !== level) await head.load(await bytes(withLevel(head.info.links.glb!, level)), level);
      }));
    } catch (error) {
      showError(error);
    }
    this.act(this.expression.weights, true);
    this.choose(this.chosen);
  }

  choose(number: number): void {
    this.chosen = number;
    const { active } = this;
    choose(by("cells").children as Iterable<HTMLElement>, "aria-pressed", (cell) => cell === by("cells").children[number]);
    by("which").textContent = this.heads.length > 1 ? `seed ${active?.seed}` : "";
    by<HTMLSelectElement>("lod").disabled = !active?.info;
    by<HTMLSelectElement>("lod").value = String(active?.level ?? 0);
    offerFiles(active?.info ?? null, active?.level ?? 0);
    this.expression.offer(active?.shapeNames ?? []);
    this.setLook(this.look);
  }

  private async fetch(head: HeadView, info: HeadInfo): Promise<void> {
    await head.load(await bytes(info.links.glb ?? ""));
    head.info = info;
    head.setShapes(this.expression.weights);
    if (this.heads.includes(head)) this.choose(this.chosen);
  }

  private enter(heads: HeadView[]): void {
    for (const head of this.heads) head.clear();
    this.heads = heads;
    by("empty").hidden = true;
    by("cells").replaceChildren(...(heads.length > 1 ? heads.map((head, number) => make(
      "button", { textContent: `Seed ${head.seed}`, onclick: () => this.choose(number) })) : []));
    this.stage?.show(heads);
    this.choose(0);
  }

  private told(): void {
    const { active } = this;
    const { preview, head } = this.times;
    const facts = [`${Math.round(active?.triangles ?? 0).toLocaleString("en")} triangles`];
    if (head) facts.push(`first seen after ${seconds(preview ?? head)}, done after ${seconds(head)}`);
    say(facts.join(" · "));
  }

  private offerMake(): void {
    const button = by<HTMLButtonElement>("make");
    button.disabled = !this.picture || !this.surface;
    button.textContent = this.busy ? "Stop" : this.heads.length ? "Make it again" : "Make the head";
  }
}

function seconds(milliseconds: number): string {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}
