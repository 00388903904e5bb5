// The mirror: the camera's picture drives the heads.
import { closeCamera, openCamera, photograph } from "./camera";
import { mirrored } from "./shapes";
import type { Studio } from "./studio";
import { Line, type Tracked } from "./track";
import { by } from "./ui/dom";
import { hideError, showError } from "./ui/messages";

const SLIDERS_MS = 250; // between two updates of the sliders, which nobody reads faster
const NEUTRAL_MS = 1000; // for which a face is looked at that is said to be neutral

export class Mirror {
  /** What the last answer took, milliseconds, and the answers a second. */
  readonly measured = { latency: 0, rate: 0, server: 0, answers: 0 };
  private readonly video = by<HTMLVideoElement>("video");
  private readonly line: Line;
  private on = false;
  private slidersAt = 0;
  private rest: Record<string, number> = {}; // the scores of a neutral face
  private resting: { until: number; sums: Record<string, number>; count: number } | null = null;

  constructor(private readonly studio: Studio, private readonly photographed: (picture: Blob) => void) {
    this.line = new Line(this.video, (found, latency, rate) => this.seen(found, latency, rate), (failure) => {
      if (failure) showError(failure);
      this.close();
    });
    by("calibrate").addEventListener("click", () => this.calibrate());
    by("photograph").addEventListener("click", () => void this.photograph());
    by("mirror").addEventListener("click", () => this.toggle());
  }

  toggle(): void {
    if (this.on) this.close();
    else void this.start();
  }

  async start(): Promise<void> {
    hideError();
    try {
      await openCamera(this.video);
    } catch (error) {
      showError(error);
      return;
    }
    this.rest = {};
    this.measured.answers = 0;
    this.show(true);
    this.line.start();
  }

  close(): void {
    if (!this.on) return;
    this.line.stop();
    closeCamera(this.video);
    this.show(false);
    this.studio.rest();
  }

  private show(on: boolean): void {
    this.on = on;
    this.video.hidden = !on;
    by("frame").classList.toggle("filled", on);
    by("mirror").textContent = on ? "Stop the mirror" : "Start the mirror";
    for (const id of ["calibrate", "photograph"]) by<HTMLButtonElement>(id).disabled = !on;
    this.note(on && !this.studio.active ? "There is no head yet: photograph yourself." : "");
    if (!on) for (const id of ["rate", "latency"]) by(id).textContent = "–";
  }

  private seen(found: Tracked, latency: number, rate: number): void {
    Object.assign(this.measured, { latency, rate, server: found.ms, answers: this.measured.answers + 1 });
    const now = performance.now();
    if (found.expression && found.pose) {
      this.learn(found.expression, now);
      const weights = mirrored(this.rested(found.expression));
      const [yaw, pitch, roll] = found.pose;
      this.studio.act(weights, true, { yaw: -yaw, pitch, roll: -roll });
      if (now - this.slidersAt > SLIDERS_MS) this.studio.expression.show(weights);
    }
    if (now - this.slidersAt <= SLIDERS_MS) return;
    this.slidersAt = now;
    by("rate").textContent = rate.toFixed(0);
    by("latency").textContent = latency.toFixed(0);
    if (this.resting) return;
    if (!found.expression) this.note("Nobody is seen.");
    else this.note(this.studio.active ? "" : "There is no head yet: photograph yourself.");
  }

  private calibrate(): void {
    this.resting = { until: performance.now() + NEUTRAL_MS, sums: {}, count: 0 };
    this.note("Look neutral for a second …");
  }

  private learn(scores: Record<string, number>, now: number): void {
    const { resting } = this;
    if (!resting) return;
    for (const [name, score] of Object.entries(scores)) resting.sums[name] = (resting.sums[name] ?? 0) + score;
    resting.count++;
    if (now < resting.until) return;
    this.rest = Object.fromEntries(Object.entries(resting.sums).map(([name, sum]) => [name, sum / resting.count]));
    this.resting = null;
  }

  // As FaceTracker.calibrate does: the score of a neutral face becomes 0, and 1 stays 1.
  private rested(scores: Record<string, number>): Record<string, number> {
    return Object.fromEntries(Object.entries(scores).map(([name, score]) => {
      const rest = Math.min(0.99, this.rest[name] ?? 0);
      return [name, Math.max(0, (score - rest) / (1 - rest))];
    }));
  }

  private async photograph(): Promise<void> {
    try {
      const picture = await photograph(this.video);
      this.photographed(picture);
    } catch (error) {
      showError(error);
    }
  }

  private note(text: string): void {
    const place = by("mirror-note");
    if (place.textContent !== (text || "\u00a0")) place.textContent = text || "\u00a0";
  }
}
