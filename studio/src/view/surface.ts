// The surface that all heads of a model share, and its normals.

/** How the vertices of a model are joined; from /v1/models/{name}/topology. */
export interface Surface {
  vertices: number;
  triangles: Uint32Array; // [F*3] into the vertices
}

/**
 * Write normals of unit length, [V*3], weighted by the triangles' areas and counter-clockwise outward, into `normals`.
 * Vertices of no triangle keep a zero normal.
 */
export function computeNormals(positions: Float32Array, triangles: Uint32Array, normals: Float32Array): void {
  normals.fill(0);
  for (let corner = 0; corner < triangles.length; corner += 3) {
    const a = triangles[corner]! * 3, b = triangles[corner + 1]! * 3, c = triangles[corner + 2]! * 3;
    const ax = positions[a]!, ay = positions[a + 1]!, az = positions[a + 2]!;
    const ux = positions[b]! - ax, uy = positions[b + 1]! - ay, uz = positions[b + 2]! - az;
    const vx = positions[c]! - ax, vy = positions[c + 1]! - ay, vz = positions[c + 2]! - az;
    const nx = uy * vz - uz * vy, ny = uz * vx - ux * vz, nz = ux * vy - uy * vx;
    for (const vertex of [a, b, c]) {
      normals[vertex]! += nx;
      normals[vertex + 1]! += ny;
      normals[vertex + 2]! += nz;
    }
  }
  for (let at = 0; at < normals.length; at += 3) {
    const length = Math.hypot(normals[at]!, normals[at + 1]!, normals[at + 2]!) || 1;
    normals[at]! /= length;
    normals[at + 1]! /= length;
    normals[at + 2]! /= length;
  }
}
