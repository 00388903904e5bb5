// What the server says and takes, over HTTP. docs/serve.md describes it.

export interface Problem {
  status?: number;
  title: string;
  detail?: string | null;
  got?: string | null;
  expected?: string | null;
  fix?: string | null;
}

/** An error with the fields of the server's problem+json. */
export class Failure extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail ?? problem.title);
  }
}

export interface Model {
  name: string;
  presets: { name: string; steps: number }[];
  vertices: number;
  lods: number;
  topology: string;
}

export interface Face {
  box: [number, number, number, number]; // x, y, width and height in the upright picture
  landmarks: [number, number, number][]; // none where the face looks too far sideways
  warnings: string[];
}

export interface Faces {
  width: number;
  height: number;
  faces: Face[]; // the largest first
  chosen: number | null;
}

export interface HeadInfo {
  id: string;
  seed: number | null;
  links: Record<string, string>; // kind of file -> where it is
  warnings: string[];
  expression: Record<string, number>; // in the photograph
}

async function answer(request: Promise<Response>): Promise<Response> {
  let response: Response;
  try {
    response = await request;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Failure({
      title: "The studio does not answer",
      fix: "see whether topos-rt studio still runs in its terminal, then try again",
    });
  }
  if (response.ok) return response;
  const kind = response.headers.get("Content-Type") ?? "";
  if (kind.includes("json")) throw new Failure((await response.json()) as Problem);
  throw new Failure({ title: `The server answered ${response.status} ${response.statusText}` });
}

export async function models(): Promise<Model[]> {
  const found = await (await answer(fetch("v1/models"))).json();
  return (found as { models: Model[] }).models;
}

export async function bytes(path: string): Promise<ArrayBuffer> {
  return (await answer(fetch(path))).arrayBuffer();
}

export async function retopologize(
  scan: File, options: Record<string, string>, signal: AbortSignal,
): Promise<HeadInfo> {
  const form = new FormData();
  form.append("scan", scan, scan.name);
  for (const [name, value] of Object.entries(options)) form.append(name, value);
  const made = await (await answer(fetch("v1/retopologize", { method: "POST", body: form, signal }))).json();
  return (made as { heads: [HeadInfo] }).heads[0];
}

/** Return a WebSocket's address beside this page. */
export function socketAddress(path: string): string {
  const address = new URL(path, document.baseURI);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  return address.href;
}
