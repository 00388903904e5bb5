// One head on the stage: first its estimates, then the file that the server made of it.
import {
  Box3, Euler, Group, MeshBasicMaterial, MeshStandardMaterial, Quaternion, SkinnedMesh, Vector3,
  type Material, type Mesh, type Object3D, type Texture,
} from "three";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
import type { HeadInfo } from "../api";
import { Growth } from "./growth";
import type { Surface } from "./surface";

export type Look = "skin" | "clay" | "wire";
export interface Pose { yaw: number; pitch: number; roll: number } // degrees, as the server's

const EASE_MS = 70; // time constant of shapes that are set at once, such as a preset
const NECK_SHARE = 0.4; // of a turn; the head's own joint takes the rest

const clay = new MeshStandardMaterial({
  color: 0xc9c2ba, roughness: 0.72, polygonOffset: true, polygonOffsetFactor: 1, polygonOffsetUnits: 1,
});
const lines = new MeshBasicMaterial({ color: 0x2b5d73, wireframe: true, transparent: true, opacity: 0.42 });

export class HeadView {
  readonly root = new Group();
  readonly centre = new Vector3();
  readonly size = new Vector3(0.21, 0.26, 0.24); // metres, until the head is known
  info: HeadInfo | null = null;
  level = 0;
  private growth: Growth | null = null;
  private meshes: Mesh[] = [];
  private wires: Mesh[] = [];
  private skins = new Map<Mesh, Material | Material[]>();
  private joints: { neck?: Object3D; head?: Object3D } = {};
  private model: Object3D | null = null;
  private look: Look = "skin";
  private readonly wanted = new Map<string, number>();
  private readonly weights = new Map<string, number>();
  private last = 0;

  constructor(readonly seed: number | null, private readonly still: boolean) {}

  /** Show an estimate, [V*3] metres. */
  grow(positions: Float32Array, surface: Surface, now: number): void {
    if (this.model) return; // the file came first
    if (!this.growth) {
      this.growth = new Growth(surface, clay, this.still);
      this.root.add(this.growth.mesh);
      this.frame(positions);
    }
    this.growth.show(positions, now);
  }

  /** Show a GLB in place of what is there. */
  async load(glb: ArrayBuffer, level = 0): Promise<void> {
    const gltf = await new GLTFLoader().parseAsync(glb, "");
    this.clear();
    this.model = gltf.scene;
    this.level = level;
    gltf.scene.traverse((object) => {
      const mesh = object as Mesh;
      if (!mesh.isMesh) return;
      mesh.frustumCulled = false; // shapes and joints move it out of its box
      this.meshes.push(mesh);
      this.skins.set(mesh, mesh.material);
    });
    for (const mesh of this.meshes) this.wires.push(wireOf(mesh));
    gltf.scene.traverse((object) => {
      if (object.userData.humanoid === "neck") this.joints.neck = object;
      if (object.userData.humanoid === "head") this.joints.head = object;
    });
    this.root.add(gltf.scene);
    const box = new Box3().setFromObject(gltf.scene);
    box.getCenter(this.centre);
    box.getSize(this.size);
    this.weights.clear();
    this.setLook(this.look);
  }

  get ready(): boolean {
    return this.model !== null;
  }

  get shapeNames(): string[] {
    return Object.keys(this.meshes[0]?.morphTargetDictionary ?? {});
  }

  get triangles(): number {
    return this.meshes.reduce((sum, mesh) => sum + (mesh.geometry.index?.count ?? 0) / 3, 0);
  }

  /** The mesh of the skin, without teeth and lashes. */
  get skin(): Mesh | null {
    return this.meshes[0] ?? null;
  }

  get picture(): Texture | null {
    const skin = this.skin && this.skins.get(this.skin);
    return (skin instanceof MeshStandardMaterial && skin.map) || null;
  }

  setLook(look: Look): void {
    this.look = look;
    for (const mesh of this.meshes) {
      const skin = this.skins.get(mesh)!;
      const lashes = !Array.isArray(skin) && (skin.transparent || skin.alphaTest > 0);
      mesh.material = look === "skin" ? skin : clay;
      mesh.visible = look === "skin" || !lashes;
    }
    for (const wire of this.wires) wire.visible = look === "wire";
  }

  /** Set shapes by name, 0 to 1; all others go to 0. */
  setShapes(weights: Record<string, number>, atOnce = false): void {
    this.wanted.clear();
    for (const [name, weight] of Object.entries(weights)) this.wanted.set(name, weight);
    if (atOnce || this.still) for (const name of this.shapeNames) this.influence(name, this.wanted.get(name) ?? 0);
  }

  setPose(pose: Pose): void {
    const turn = new Quaternion().setFromEuler(new Euler(
      radians(-pose.pitch), radians(pose.yaw), radians(pose.roll), "ZXY"));
    const none = new Quaternion();
    const { neck, head } = this.joints;
    if (!head) {
      this.root.quaternion.copy(turn);
      return;
    }
    if (neck) neck.quaternion.slerpQuaternions(none, turn, NECK_SHARE);
    head.quaternion.slerpQuaternions(none, turn, neck ? 1 - NECK_SHARE : 1);
  }

  /** Move on; return whether there is more to come. */
  tick(now: number): boolean {
    const elapsed = Math.min(100, now - this.last);
    this.last = now;
    let moving = this.growth?.tick(now) ?? false;
    const share = 1 - Math.exp(-elapsed / EASE_MS);
    for (const name of this.shapeNames) {
      const target = this.wanted.get(name) ?? 0, weight = this.weights.get(name) ?? 0;
      if (target === weight) continue;
      const next = weight + (target - weight) * share;
      const there = Math.abs(target - next) < 0.002;
      this.influence(name, there ? target : next);
      moving ||= !there;
    }
    return moving;
  }

  /** Where a vertex of the skin is now, with shapes and joints, in the head's metres: for tests and the curious. */
  vertex(index: number): [number, number, number] {
    const { skin } = this;
    if (!skin) return [NaN, NaN, NaN];
    this.root.updateMatrixWorld(true); // which skinned meshes need, too
    const point = skin.localToWorld(skin.getVertexPosition(index, new Vector3()));
    return this.root.worldToLocal(point).toArray();
  }

  /** The weights of the shapes as they are drawn now. */
  influences(): Record<string, number> {
    const { morphTargetDictionary: names, morphTargetInfluences: values } = this.skin ?? {};
    return Object.fromEntries(Object.entries(names ?? {}).map(([name, at]) => [name, values?.[at] ?? 0]));
  }

  clear(): void {
    this.growth?.dispose();
    this.growth = null;
    for (const mesh of this.meshes) {
      mesh.geometry.dispose();
      for (const material of [this.skins.get(mesh)!].flat()) {
        for (const value of Object.values(material)) if ((value as Texture | null)?.isTexture) (value as Texture).dispose();
        material.dispose();
      }
    }
    this.root.clear();
    this.meshes = [];
    this.wires = [];
    this.skins = new Map();
    this.joints = {};
    this.model = null;
  }

  private influence(name: string, weight: number): void {
    this.weights.set(name, weight);
    for (const mesh of this.meshes) {
      const at = mesh.morphTargetDictionary?.[name];
      if (at !== undefined && mesh.morphTargetInfluences) mesh.morphTargetInfluences[at] = weight;
    }
  }

  private frame(positions: Float32Array): void {
    const box = new Box3().setFromArray(positions);
    box.getCenter(this.centre);
    box.getSize(this.size);
  }
}

/** The lines of a mesh, which move with it. */
function wireOf(mesh: Mesh): Mesh {
  const skinned = mesh as SkinnedMesh;
  let wire: Mesh;
  if (skinned.isSkinnedMesh) {
    const copy = new SkinnedMesh(mesh.geometry, lines);
    copy.bind(skinned.skeleton, skinned.bindMatrix);
    wire = copy;
  } else {
    wire = mesh.clone(false);
    wire.material = lines;
  }
  if (mesh.morphTargetInfluences) wire.morphTargetInfluences = mesh.morphTargetInfluences; // one array for both
  wire.frustumCulled = false;
  wire.visible = false;
  mesh.parent?.add(wire);
  return wire;
}

function radians(degrees: number): number {
  return (degrees * Math.PI) / 180;
}
