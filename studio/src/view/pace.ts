// How long the graphics card takes for a picture; a slow one, such as the processor in its place, gets pauses.

const SLOW_MS = 45; // for a picture: 20 a second and more are wanted
const PICTURES = 4; // of which the middle counts: the first after a change also compiles shaders
const POLL_MS = 2;

export class Pace {
  private busy = false;
  private next: (() => void) | null = null;
  private readonly times: number[] = [];

  /** `slow` is called when several pictures in a row took too long. */
  constructor(private readonly gl: WebGL2RenderingContext, private readonly slow: () => void) {}

  /** Run `draw` now, or once the card has finished the picture before; the last of several counts. */
  whenFree(draw: () => void): void {
    if (this.busy) this.next = draw;
    else draw();
  }

  /** Measure what has just been drawn. */
  measure(): void {
    const fence = this.busy ? null : this.gl.fenceSync(this.gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    if (!fence) return;
    this.gl.flush();
    this.busy = true;
    const began = performance.now();
    const look = (): void => {
      if (this.gl.clientWaitSync(fence, 0, 0) === this.gl.TIMEOUT_EXPIRED) {
        setTimeout(look, POLL_MS);
        return;
      }
      this.gl.deleteSync(fence);
      const took = performance.now() - began;
      // Where the processor draws, it would have no time left for the heads otherwise.
      if (took > SLOW_MS) setTimeout(() => this.free(), took);
      else this.free();
      this.judge(took);
    };
    setTimeout(look, POLL_MS);
  }

  private free(): void {
    const { next } = this;
    this.busy = false;
    this.next = null;
    next?.();
  }

  private judge(took: number): void {
    this.times.push(took);
    if (this.times.length < PICTURES) return;
    const middle = [...this.times].sort((a, b) => a - b)[PICTURES >> 1]!;
    this.times.length = 0;
    if (middle > SLOW_MS) this.slow();
  }
}
