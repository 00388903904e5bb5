// Loads /head.glb with three.js, sets it as /job.json says, and sends every picture back to the server.
import * as THREE from "three";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";

async function send(name, body) {
  await fetch(`/result/${name}`, { method: "POST", body });
}

async function main() {
  const job = await (await fetch("/job.json")).json();
  const renderer = new THREE.WebGLRenderer({
    canvas: document.getElementById("view"), preserveDrawingBuffer: true, antialias: false,
  });
  renderer.setPixelRatio(1);
  renderer.setSize(job.width, job.height);
  const scene = new THREE.Scene();
  const key = new THREE.DirectionalLight(0xffffff, 2.5);
  key.position.set(-0.5, 0.6, 1);
  scene.add(key, new THREE.HemisphereLight(0xdde6ff, 0x665544, 1.2));

  const gltf = await new GLTFLoader().loadAsync("/head.glb");
  scene.add(gltf.scene);
  let mesh = null;
  gltf.scene.traverse((object) => { if (object.isMesh) mesh = object; });
  const lit = mesh.material;

  // job.half: half of the height seen, in metres
  const across = (job.half * job.width) / job.height;
  const camera = new THREE.OrthographicCamera(-across, across, job.half, -job.half, 0.01, 10);
  camera.position.set(job.centre[0], job.centre[1], job.centre[2] + 2);

  await send("facts.json", JSON.stringify({
    skinned: Boolean(mesh.isSkinnedMesh), bones: mesh.skeleton ? mesh.skeleton.bones.length : 0,
    shapes: mesh.morphTargetDictionary, vertices: mesh.geometry.attributes.position.count,
    metalness: lit.metalness, roughness: lit.roughness, revision: THREE.REVISION,
  }));
  for (const [name, state] of Object.entries(job.states)) {
    for (const [shape, number] of Object.entries(mesh.morphTargetDictionary)) {
      mesh.morphTargetInfluences[number] = state.shapes[shape] ?? 0;
    }
    for (const bone of mesh.skeleton.bones) {
      const turn = state.turns[bone.userData.name ?? bone.name] ?? [0, 0, 0];
      const axis = new THREE.Vector3(...turn);
      bone.quaternion.setFromAxisAngle(axis.clone().normalize(), axis.length());
    }
    for (const [kind, material] of [["lit", lit], ["normals", new THREE.MeshNormalMaterial()]]) {
      mesh.material = material;
      renderer.setClearColor(kind === "lit" ? 0x55575c : 0x000000, 1);
      renderer.render(scene, camera);
      const blob = await new Promise((resolve) => renderer.domElement.toBlob(resolve, "image/png"));
      await send(`${name}_${kind}.png`, blob);
    }
  }
  await send("done", "");
}

main().catch((error) => send("error", String(error.stack ?? error)));
