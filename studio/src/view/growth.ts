// A head while it is being made: positions arrive step by step, and the surface flows from one to the next.
import { BufferAttribute, BufferGeometry, Mesh, type Material } from "three";
import { computeNormals, type Surface } from "./surface";

const FLOW_MS = 180; // from one estimate to the next

export class Growth {
  readonly mesh: Mesh;
  private readonly positions: Float32Array;
  private readonly normals: Float32Array;
  private from: Float32Array | null = null;
  private to: Float32Array | null = null;
  private since = 0;

  constructor(private readonly surface: Surface, material: Material, private readonly still: boolean) {
    this.positions = new Float32Array(surface.vertices * 3);
    this.normals = new Float32Array(surface.vertices * 3);
    const geometry = new BufferGeometry();
    geometry.setAttribute("position", new BufferAttribute(this.positions, 3));
    geometry.setAttribute("normal", new BufferAttribute(this.normals, 3));
    geometry.setIndex(new BufferAttribute(surface.triangles, 1));
    this.mesh = new Mesh(geometry, material);
    this.mesh.frustumCulled = false;
    this.mesh.visible = false;
  }

  /** Flow to new positions [V*3], metres; the first ones are shown as they are. */
  show(positions: Float32Array, now: number): void {
    if (this.mesh.visible && !this.still) {
      this.from = this.positions.slice();
      this.to = positions;
      this.since = now;
      return;
    }
    this.positions.set(positions);
    this.mesh.visible = true;
    this.update();
  }

  /** Move on; return whether there is more to come. */
  tick(now: number): boolean {
    if (!this.from || !this.to) return false;
    const share = Math.min(1, (now - this.since) / FLOW_MS);
    const eased = share * (2 - share);
    for (let i = 0; i < this.positions.length; i++) {
      this.positions[i] = this.from[i]! + (this.to[i]! - this.from[i]!) * eased;
    }
    this.update();
    if (share === 1) this.from = this.to = null;
    return share < 1;
  }

  dispose(): void {
    this.mesh.geometry.dispose();
  }

  private update(): void {
    computeNormals(this.positions, this.surface.triangles, this.normals);
    this.mesh.geometry.getAttribute("position").needsUpdate = true;
    this.mesh.geometry.getAttribute("normal").needsUpdate = true;
  }
}
