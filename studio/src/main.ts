import "./style.css";
import { closeCamera, openCamera, photograph } from "./camera";
import { Mirror } from "./mirror";
import { Studio } from "./studio";
import { by, choose } from "./ui/dom";
import { startInputs } from "./ui/inputs";
import { startKeys } from "./ui/keys";
import { blockStage, hideError, showError } from "./ui/messages";
import { startTheme } from "./ui/theme";
import type { Look } from "./view/head";
import { Stage } from "./view/stage";

type Mode = "portrait" | "mirror" | "scan";
const MODES: Mode[] = ["portrait", "mirror", "scan"];
const LOOKS: (Look | "uv")[] = ["skin", "clay", "wire", "uv"];
const TURNS: Record<string, [right: number, up: number]> = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1],
};
const LIGHT_STEP = 15; // degrees

function openStage(): Stage | null {
  try {
    const { style } = by("cells");
    return new Stage(by("view"), by<HTMLCanvasElement>("canvas"), (columns, rows) => {
      style.setProperty("--columns", String(columns));
      style.setProperty("--rows", String(rows));
    }, () => blockStage(
      "The graphics card was lost", "The browser took WebGL away from this page. Reload the page to get it back."));
  } catch {
    blockStage("WebGL is missing", "This browser cannot draw in 3D here. Turn on hardware acceleration in its settings, or"
      + " use a current Firefox, Chrome, Edge or Safari. Heads can be made and downloaded all the same.");
    return null;
  }
}

const stage = openStage();
const studio = new Studio(stage);
const mirror = new Mirror(studio, (picture) => studio.use(picture));
const video = by<HTMLVideoElement>("video");

function setMode(mode: Mode): void {
  if (document.body.dataset.mode === mode) return;
  mirror.close();
  document.body.dataset.mode = mode;
  closePortrait();
  for (const tab of document.querySelectorAll<HTMLElement>("[role=tab]")) {
    const on = tab.dataset.mode === mode;
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
  }
  by("source").setAttribute("aria-labelledby", `tab-${mode}`);
  if (mode !== "portrait") by("frame").classList.remove("filled");
  document.querySelector<HTMLElement>(".sheets [data-sheet=source]")!.textContent = SHEETS[mode];
  hideError();
}

const SHEETS: Record<Mode, string> = { portrait: "Picture", mirror: "Mirror", scan: "Scan" };

// The camera button opens the camera, and then takes the picture.
async function useCamera(): Promise<void> {
  try {
    if (video.srcObject) {
      const picture = await photograph(video);
      closePortrait();
      studio.use(picture);
      return;
    }
    hideError();
    await openCamera(video);
    video.hidden = false;
    by("frame").classList.add("filled");
    by("camera").textContent = "Take picture";
  } catch (error) {
    showError(error);
  }
}

function closePortrait(): void {
  closeCamera(video);
  video.hidden = true;
  by("camera").textContent = "Use camera";
  if (document.body.dataset.mode === "portrait") by("frame").classList.toggle("filled", !by("picture").hidden);
}

function stop(): void {
  studio.cancel();
  mirror.close();
  closePortrait();
  hideError();
}

function setLight(degrees: number): void {
  const slider = by<HTMLInputElement>("light");
  slider.value = String(((degrees + 540) % 360) - 180);
  stage?.turnLight(Number(slider.value));
}

function setSheet(sheet: string): void {
  document.body.dataset.sheet = sheet;
  choose(document.querySelectorAll<HTMLElement>(".sheets button"), "aria-pressed", (button) => button.dataset.sheet === sheet);
}

function choosePicture(): void {
  by(document.body.dataset.mode === "scan" ? "file-scan" : "file-picture").click();
}

function click(id: string, run: () => void): void {
  by(id).addEventListener("click", run);
}

startTheme(() => studio.redraw());
startInputs((file, isScan) => {
  setMode(isScan ? "scan" : "portrait");
  closePortrait();
  if (isScan) void studio.scan(file);
  else studio.use(file);
});
for (const tab of document.querySelectorAll<HTMLElement>("[role=tab]")) {
  tab.addEventListener("click", () => setMode(tab.dataset.mode as Mode));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: MODES.length - 1 }[event.key];
    if (step === undefined) return;
    const next = MODES[(MODES.indexOf(tab.dataset.mode as Mode) + step) % MODES.length]!;
    setMode(next);
    by(`tab-${next}`).focus();
  });
}
for (const button of document.querySelectorAll<HTMLElement>(".sheets button")) {
  button.addEventListener("click", () => setSheet(button.dataset.sheet!));
}
for (const button of document.querySelectorAll<HTMLElement>("[data-look]")) {
  button.addEventListener("click", () => studio.setLook(button.dataset.look as Look | "uv"));
}
click("choose", choosePicture);
click("choose-scan", choosePicture);
click("frame", () => {
  if (!by("frame").classList.contains("filled") && document.body.dataset.mode !== "mirror") choosePicture();
});
click("camera", () => void useCamera());
click("make", () => (studio.busy ? studio.cancel() : void studio.make()));
click("home", () => stage?.home());
click("alert-close", hideError);
click("help", () => by<HTMLDialogElement>("keys").showModal());
by("light").addEventListener("input", () => stage?.turnLight(Number(by<HTMLInputElement>("light").value)));
by("lod").addEventListener("change", () => void studio.setLevel(Number(by<HTMLSelectElement>("lod").value)));
new ResizeObserver(() => studio.redraw()).observe(by("flat"));

startKeys([
  { keys: ["o"], what: "choose a picture or a scan", run: choosePicture },
  { keys: ["c"], what: "open the camera; again to take the picture", run: () => { setMode("portrait"); void useCamera(); } },
  { keys: ["m"], what: "start and stop the mirror", run: () => { setMode("mirror"); mirror.toggle(); } },
  { keys: ["n"], what: "neutral face", run: () => studio.expression.set({}) },
  { keys: ["p"], what: "as in the photograph", run: () => studio.expression.set(studio.active?.info?.expression ?? {}) },
  {
    keys: LOOKS.map((_, number) => String(number + 1)), what: "skin, clay, wires, and the skin laid flat",
    run: (key) => studio.setLook(LOOKS[Number(key) - 1]!),
  },
  { keys: Object.keys(TURNS), what: "turn the head", run: (key) => stage?.turn(...TURNS[key]!) },
  { keys: ["+", "-"], what: "nearer, further away", run: (key) => stage?.zoom(key === "+" ? 1 : -1) },
  { keys: ["0"], what: "look from the front", run: () => stage?.home() },
  {
    keys: ["[", "]"], what: "turn the light",
    run: (key) => setLight(Number(by<HTMLInputElement>("light").value) + (key === "]" ? LIGHT_STEP : -LIGHT_STEP)),
  },
  { keys: ["d"], what: "dark or light", run: () => by("theme").click() },
  { keys: ["Escape"], what: "stop, close the camera or a message", run: stop },
  { keys: ["?"], what: "this list", run: () => by<HTMLDialogElement>("keys").showModal() },
]);

// For the browser's console, and for tests.
declare global {
  interface Window { studio: { studio: Studio; mirror: Mirror; stage: Stage | null } }
}
window.studio = { studio, mirror, stage };

studio.start().catch(showError);
