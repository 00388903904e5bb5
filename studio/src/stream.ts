// One job over a WebSocket: a picture and seeds go in; estimates of each step and heads come out.
import { Failure, socketAddress, type Faces, type HeadInfo, type Problem } from "./api";

export interface JobEvents {
  queued(ahead: number): void;
  faces(found: Faces): void;
  preview(seed: number, step: number, steps: number, positions: Float32Array): void;
  head(info: HeadInfo, positions: Float32Array): void; // neutral ones
}

export type JobOptions = Record<string, unknown>;

type Message =
  | { event: "queued"; ahead: number }
  | { event: "preview"; seed: number; step: number; steps: number }
  | ({ event: "faces" } & Faces)
  | ({ event: "head" } & HeadInfo)
  | ({ event: "error" } & Problem);

/** Run a job to its end. Rejects with the server's Failure, or an AbortError once `signal` has cancelled it. */
export function makeHeads(
  picture: Blob, seeds: number[], options: JobOptions, events: JobEvents, signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(socketAddress("v1/heads/stream"));
    socket.binaryType = "arraybuffer";
    let before: Message | null = null; // what the next binary message belongs to
    let left = seeds.length;
    const fail = (error: unknown): void => {
      reject(error);
      socket.close();
    };
    signal.addEventListener("abort", () => fail(new DOMException("cancelled", "AbortError")), { once: true });
    socket.addEventListener("open", () => {
      socket.send(JSON.stringify({ options, seeds }));
      socket.send(picture);
    });
    socket.addEventListener("message", ({ data }: MessageEvent<string | ArrayBuffer>) => {
      if (signal.aborted) return;
      if (typeof data !== "string") {
        if (before?.event === "preview") {
          events.preview(before.seed, before.step, before.steps, new Float32Array(data));
        } else if (before?.event === "head") {
          events.head(before, new Float32Array(data));
          if (--left === 0) {
            resolve();
            socket.close();
          }
        }
        before = null;
        return;
      }
      const message = JSON.parse(data) as Message;
      before = message;
      if (message.event === "queued") events.queued(message.ahead);
      if (message.event === "faces") events.faces(message);
      if (message.event === "error") fail(new Failure(message));
    });
    socket.addEventListener("close", () => fail(new Failure({
      title: "The connection to the studio broke before the head was done",
      fix: "see whether topos-rt studio still runs in its terminal, then try again",
    })));
  });
}
