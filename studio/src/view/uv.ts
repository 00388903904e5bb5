// The skin laid flat: its texture with the edges of its triangles.
import type { HeadView } from "./head";

/** Draw a head's UVs into a canvas of the size at which it is shown. */
export function drawUvs(canvas: HTMLCanvasElement, head: HeadView, dark: boolean): void {
  const skin = head.skin;
  const uv = skin?.geometry.getAttribute("uv");
  const index = skin?.geometry.index;
  const pixels = Math.min(2, devicePixelRatio);
  const side = Math.round(canvas.clientWidth * pixels);
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  if (!context || !uv || !index || !side) return;
  context.fillStyle = dark ? "#23262d" : "#e9e6e1";
  context.fillRect(0, 0, side, side);
  const picture = head.picture?.image as CanvasImageSource | undefined;
  if (picture) context.drawImage(picture, 0, 0, side, side);
  const path = new Path2D();
  for (let corner = 0; corner < index.count; corner += 3) {
    const [a, b, c] = [0, 1, 2].map((k) => index.getX(corner + k)) as [number, number, number];
    path.moveTo(uv.getX(a) * side, uv.getY(a) * side);
    path.lineTo(uv.getX(b) * side, uv.getY(b) * side);
    path.lineTo(uv.getX(c) * side, uv.getY(c) * side);
    path.closePath();
  }
  context.lineWidth = 0.5 * pixels;
  context.strokeStyle = picture ? "rgb(255 255 255 / 45%)" : dark ? "#9aa3b2" : "#5d6470";
  context.stroke(path);
}
