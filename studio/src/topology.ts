// How a model's vertices are joined: a safetensors file of the server.
import { bytes } from "./api";
import type { Surface } from "./view/surface";

interface Entry { dtype: string; shape: number[]; data_offsets: [number, number] }

/** Load the surface that all heads of a model share. */
export async function surfaceOf(path: string): Promise<Surface> {
  const file = await bytes(path);
  const length = Number(new DataView(file).getBigUint64(0, true));
  const { __metadata__: about, ...entries } = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 8, length))) as
    Record<string, Entry> & { __metadata__: { vertices: string } };
  const numbers = (name: string): Uint32Array => {
    const [start, end] = entries[name]!.data_offsets;
    return new Uint32Array(file.slice(8 + length + start, 8 + length + end));
  };
  // Copies along the seams of the UVs would part the normals there, so triangles join the vertices that they stand for.
  const source = numbers("source");
  return { vertices: Number(about.vertices), triangles: numbers("triangles").map((drawn) => source[drawn]!) };
}
