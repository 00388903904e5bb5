// The stage: heads side by side under one light, seen by one camera that the mouse turns.
import {
  ACESFilmicToneMapping, DirectionalLight, Group, HemisphereLight, PerspectiveCamera, Scene, Vector3, WebGLRenderer,
} from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import type { HeadView } from "./head";
import { Pace } from "./pace";

const FOV = 22; // degrees: a portrait lens
const MARGIN = 1.08;
const MOST_PIXELS = 2; // for each of the screen's; more costs much and shows little
const LEAST_PIXELS = 0.5;
const TURN_STEP = 0.14, ZOOM_STEP = 1.12; // a key's

export class Stage {
  private readonly renderer: WebGLRenderer;
  private readonly scene = new Scene();
  private readonly camera = new PerspectiveCamera(FOV, 1, 0.02, 10);
  private readonly controls: OrbitControls;
  private readonly lamps = new Group();
  /** Pictures that were drawn so far. */
  drawn = 0;
  private heads: HeadView[] = [];
  private readonly pace: Pace;
  private pixels = Math.min(MOST_PIXELS, devicePixelRatio);
  private asked = false;
  private columns = 1;
  private rows = 1;
  private homeDistance = 1;

  /** Raises an Error where there is no WebGL. */
  constructor(
    private readonly place: HTMLElement, canvas: HTMLCanvasElement,
    private readonly onGrid: (columns: number, rows: number) => void, private readonly onLost: () => void,
  ) {
    this.renderer = new WebGLRenderer({ canvas, antialias: true, alpha: true, powerPreference: "high-performance" });
    this.renderer.toneMapping = ACESFilmicToneMapping;
    this.renderer.setScissorTest(true);
    this.pace = new Pace(this.renderer.getContext() as WebGL2RenderingContext, () => this.coarsen());
    this.light();
    this.controls = new OrbitControls(this.camera, place);
    this.controls.enablePan = false;
    this.controls.enableDamping = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.controls.dampingFactor = 0.12;
    this.controls.rotateSpeed = 0.9;
    this.controls.addEventListener("change", () => this.draw());
    canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      this.onLost();
    });
    canvas.addEventListener("webglcontextrestored", () => this.draw());
    new ResizeObserver(() => this.resize()).observe(place);
    this.home();
  }

  /** Put heads on the stage, in place of those that were there. */
  show(heads: HeadView[]): void {
    for (const head of this.heads) if (!heads.includes(head)) this.scene.remove(head.root);
    this.heads = heads;
    for (const head of heads) this.scene.add(head.root);
    this.resize();
  }

  get grid(): { columns: number; rows: number } {
    return { columns: this.columns, rows: this.rows };
  }

  /** Look from the front, at a distance from which the whole head is seen. */
  home(): void {
    this.fit();
    this.halt();
    this.camera.position.set(0, 0, this.homeDistance);
    this.controls.update();
    this.draw();
  }

  /** Turn by steps of a key, to the right and up. */
  turn(right: number, up: number): void {
    this.halt();
    const offset = this.camera.position.clone();
    offset.applyAxisAngle(new Vector3(0, 1, 0), -right * TURN_STEP);
    const side = new Vector3(0, 1, 0).cross(offset).normalize();
    const tilted = offset.clone().applyAxisAngle(side, up * TURN_STEP);
    if (Math.abs(tilted.y) < 0.97 * tilted.length()) offset.copy(tilted);
    this.camera.position.copy(offset);
    this.controls.update();
    this.draw();
  }

  zoom(nearer: number): void {
    const { minDistance, maxDistance } = this.controls;
    const distance = this.camera.position.length() * ZOOM_STEP ** -nearer;
    this.camera.position.setLength(Math.min(maxDistance, Math.max(minDistance, distance)));
    this.controls.update();
    this.draw();
  }

  /** Turn the lamps about the vertical; 0 is the usual place, degrees. */
  turnLight(degrees: number): void {
    this.lamps.rotation.y = (degrees * Math.PI) / 180;
    this.draw();
  }

  /** Draw when the screen is next drawn. */
  draw(): void {
    if (this.asked) return;
    this.asked = true;
    this.pace.whenFree(() => requestAnimationFrame((now) => {
      this.asked = false;
      this.render(now);
    }));
  }

  // Ends what a turn of the mouse has left to go on.
  private halt(): void {
    const { enableDamping } = this.controls;
    this.controls.enableDamping = false;
    this.controls.update();
    this.controls.enableDamping = enableDamping;
  }

  private light(): void {
    const lamp = (colour: number, strength: number, x: number, y: number, z: number): void => {
      const light = new DirectionalLight(colour, strength);
      light.position.set(x, y, z);
      this.lamps.add(light, light.target);
    };
    lamp(0xfff1e2, 2.3, -0.75, 0.75, 1.0); // key
    lamp(0xdde8ff, 0.75, 1.2, 0.1, 0.8); // fill
    lamp(0xffffff, 1.5, 0.9, 0.8, -1.1); // rim
    lamp(0xfff4ea, 0.7, -1.1, 0.3, -1.0);
    this.camera.add(this.lamps, new HemisphereLight(0xf4f6ff, 0x6a5d54, 0.95));
    this.scene.add(this.camera); // the lamps stay where they are while the head turns
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.place;
    if (!width || !height) return;
    const count = Math.max(1, this.heads.length);
    const fits = (columns: number): number => Math.min(width / columns, (height / Math.ceil(count / columns)) * 0.85);
    this.columns = 1;
    for (let columns = 2; columns <= count; columns++) if (fits(columns) > fits(this.columns)) this.columns = columns;
    this.rows = Math.ceil(count / this.columns);
    this.onGrid(this.columns, this.rows);
    this.renderer.setPixelRatio(this.pixels);
    this.renderer.setSize(width, height, false);
    this.fit();
    this.render(performance.now());
  }

  /** Keep the size of heads on the screen when the window or the number of heads changes. */
  private fit(): void {
    const { clientWidth: width, clientHeight: height } = this.place;
    const aspect = width / this.columns / Math.max(1, height / this.rows) || 1;
    const tall = Math.max(0.2, ...this.heads.map((head) => head.size.y));
    const wide = Math.max(0.2, ...this.heads.map((head) => Math.max(head.size.x, head.size.z)));
    const half = Math.tan((FOV / 2) * (Math.PI / 180));
    const distance = (MARGIN * Math.max(tall, wide / aspect)) / 2 / half + wide / 4; // the face is nearer than the middle
    this.camera.aspect = aspect;
    this.camera.updateProjectionMatrix();
    this.camera.position.multiplyScalar(distance / this.homeDistance);
    this.homeDistance = distance;
    this.controls.minDistance = distance * 0.3;
    this.controls.maxDistance = distance * 2;
  }

  private render(now: number): void {
    this.drawn++;
    let moving = this.controls.update();
    for (const head of this.heads) moving = head.tick(now) || moving;
    const { clientWidth: width, clientHeight: height } = this.place;
    const across = width / this.columns, down = height / this.rows;
    this.renderer.setScissor(0, 0, width, height);
    this.renderer.clear();
    this.heads.forEach((head, number) => {
      const x = (number % this.columns) * across;
      const y = height - (Math.floor(number / this.columns) + 1) * down;
      this.renderer.setViewport(x, y, across, down);
      this.renderer.setScissor(x, y, across, down);
      for (const other of this.heads) other.root.visible = other === head;
      head.root.position.copy(head.centre).applyQuaternion(head.root.quaternion).negate();
      this.renderer.render(this.scene, this.camera);
    });
    if (this.heads.some((head) => head.ready)) this.pace.measure();
    if (moving) this.draw();
  }

  // A graphics card that is too slow for so many pixels gets fewer.
  private coarsen(): void {
    if (this.pixels <= LEAST_PIXELS) return;
    this.pixels = Math.max(LEAST_PIXELS, this.pixels * 0.7);
    this.resize();
  }
}
