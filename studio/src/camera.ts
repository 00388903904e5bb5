// The webcam.
import { Failure } from "./api";

const CAUSES: Record<string, { title: string; fix: string }> = {
  NotAllowedError: {
    title: "The browser was not allowed to use the camera",
    fix: "allow it for this page (the camera sign beside the address), then try again",
  },
  NotFoundError: { title: "No camera was found", fix: "connect one, or choose a picture instead" },
  NotReadableError: { title: "The camera is in use", fix: "close the program that uses it, then try again" },
  OverconstrainedError: { title: "No camera was found", fix: "connect one, or choose a picture instead" },
};

/** Show the camera in a video. Raises a Failure that says what is in the way. */
export async function openCamera(video: HTMLVideoElement): Promise<void> {
  if (!navigator.mediaDevices) {
    throw new Failure({
      title: "The browser offers no camera here",
      detail: `It does so only for pages of this machine or over HTTPS; this page came from ${location.host}.`,
      fix: "open http://127.0.0.1 with the studio's port on the machine where it runs",
    });
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "user", width: { ideal: 1280 }, height: { ideal: 960 } }, audio: false,
    });
    await video.play();
  } catch (error) {
    const { name, message } = error as DOMException;
    if (name === "AbortError") return; // closed before it began to play
    throw new Failure(CAUSES[name] ?? { title: "The camera cannot be opened", detail: message, fix: "choose a picture instead" });
  }
}

export function closeCamera(video: HTMLVideoElement): void {
  for (const track of (video.srcObject as MediaStream | null)?.getTracks() ?? []) track.stop();
  video.srcObject = null;
}

/** Return what the camera sees now. */
export function photograph(video: HTMLVideoElement): Promise<Blob> {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d")?.drawImage(video, 0, 0);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Failure({ title: "The camera gave no picture" }))), "image/jpeg", 0.95);
  });
}
