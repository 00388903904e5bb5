// The mirror's line to the server: camera frames go out, expressions and poses come back.
import { Failure, socketAddress, type Problem } from "./api";

export interface Tracked {
  expression: Record<string, number> | null; // null: nobody is seen
  pose: [number, number, number] | null; // yaw, pitch, roll, degrees
  ms: number; // the server's share of the time
}

type Message = ({ event: "frame" } & Tracked) | ({ event: "error"; frame?: number } & Problem);

const WIDTH = 384; // pixels of a frame that is sent: the tracker looks at 256 of the face
const QUALITY = 0.8;
const POLL_MS = 4;

export class Line {
  private socket: WebSocket | null = null;
  private readonly canvas = document.createElement("canvas");
  private shown = -1; // the time in the video of the frame that was sent last
  private sent = 0;
  private readonly times: number[] = [];

  /** `seen` hears of every answer, with the milliseconds since its frame was taken and the answers a second. */
  constructor(
    private readonly video: HTMLVideoElement,
    private readonly seen: (found: Tracked, latency: number, rate: number) => void,
    private readonly ended: (failure: Failure | null) => void,
  ) {}

  start(): void {
    const socket = new WebSocket(socketAddress("v1/track"));
    this.socket = socket;
    let failure: Failure | null = null;
    socket.addEventListener("open", () => this.next());
    socket.addEventListener("message", ({ data }: MessageEvent<string>) => {
      if (this.socket !== socket) return;
      const message = JSON.parse(data) as Message;
      if (message.event === "frame") this.seen(message, performance.now() - this.sent, this.rate());
      else if (message.frame === undefined) failure = new Failure(message); // the server closes the line after it
      this.next();
    });
    socket.addEventListener("close", () => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.ended(failure ?? new Failure({ title: "The mirror lost its connection to the studio", fix: "start it again" }));
    });
  }

  stop(): void {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    if (socket) this.ended(null);
  }

  // One frame is under way at a time: what waits in a queue is late before it is seen. The frame that the video shows now is sent
  // at once, however slowly the page is drawn; one that was sent before is waited out.
  private next(): void {
    if (this.video.currentTime !== this.shown) this.send();
    else setTimeout(() => this.next(), POLL_MS);
  }

  private send(): void {
    const { socket } = this;
    const { videoWidth, videoHeight, currentTime } = this.video;
    if (socket?.readyState !== WebSocket.OPEN) return;
    this.shown = currentTime;
    this.canvas.width = WIDTH;
    this.canvas.height = Math.round((WIDTH * videoHeight) / videoWidth) || WIDTH;
    this.sent = performance.now();
    this.canvas.getContext("2d", { willReadFrequently: true })?.drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    // toBlob waits for the page to be idle, for up to a second.
    const [, base64 = ""] = this.canvas.toDataURL("image/jpeg", QUALITY).split(",");
    socket.send(Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)));
  }

  private rate(): number {
    const now = performance.now();
    this.times.push(now);
    while (this.times.length > 2 && now - this.times[0]! > 2000) this.times.shift();
    const span = now - this.times[0]!;
    return span > 0 ? ((this.times.length - 1) * 1000) / span : 0;
  }
}
