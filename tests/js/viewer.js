// Loads /head.glb with three.js, sets it as /job.json says, and sends every picture back to the server.
import * as THREE from "three";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";

async function send(name, body) {
  await fetch(`/result/${name}`, { method: "POST", body });
}

// The camera, the lights and the film of topos_rt's previews, without their shadows.
function preview(job, scene, renderer) {
  const { fov, lights, sky, ground } = job.preview;
  THREE.ShaderChunk.tonemapping_pars_fragment = THREE.ShaderChunk.tonemapping_pars_fragment.replace(
    "vec3 CustomToneMapping( vec3 color ) { return color; }",
    "vec3 CustomToneMapping( vec3 color ) { vec3 x = color * 0.8;" +
    " return clamp( x * ( 2.51 * x + 0.03 ) / ( x * ( 2.43 * x + 0.59 ) + 0.14 ), 0.0, 1.0 ); }");
  renderer.toneMapping = THREE.CustomToneMapping;
  for (const { direction, colour } of lights) {
    const light = new THREE.DirectionalLight(new THREE.Color().setRGB(...colour), Math.PI);
    light.position.set(...job.centre).addScaledVector(new THREE.Vector3(...direction), 5);
    light.target.position.set(...job.centre);
    scene.add(light, light.target);
  }
  const [above, below] = [sky, ground].map((colour) => new THREE.Color().setRGB(...colour));
  scene.add(new THREE.HemisphereLight(above, below, Math.PI));
  return new THREE.PerspectiveCamera(fov, job.width / job.height, 0.01, 10);
}

function plain(job, scene) {
  const key = new THREE.DirectionalLight(0xffffff, 2.5);
  key.position.set(-0.5, 0.6, 1);
  scene.add(key, new THREE.HemisphereLight(0xdde6ff, 0x665544, 1.2));
  // job.half: half of the height seen, in metres
  const across = (job.half * job.width) / job.height;
  const camera = new THREE.OrthographicCamera(-across, across, job.half, -job.half, 0.01, 10);
  camera.position.set(job.centre[0], job.centre[1], job.centre[2] + 2);
  return camera;
}

// The colours of a material without any light.
function unlit(material) {
  const { map, color, transparent, alphaTest, side, depthWrite } = material;
  return new THREE.MeshBasicMaterial({ map, color, transparent, alphaTest, side, depthWrite, toneMapped: false });
}

async function main() {
  const job = await (await fetch("/job.json")).json();
  const renderer = new THREE.WebGLRenderer({
    canvas: document.getElementById("view"), preserveDrawingBuffer: true, antialias: Boolean(job.preview),
  });
  renderer.setPixelRatio(1);
  renderer.setSize(job.width, job.height);
  const scene = new THREE.Scene();
  const gltf = await new GLTFLoader().loadAsync("/head.glb");
  // turns about the middle of the head
  const pivot = new THREE.Group();
  pivot.position.set(...job.centre);
  gltf.scene.position.set(...job.centre).negate();
  pivot.add(gltf.scene);
  scene.add(pivot);
  const camera = job.preview ? preview(job, scene, renderer) : plain(job, scene);
  const meshes = [];
  gltf.scene.traverse((object) => { if (object.isMesh) meshes.push(object); });
  const kinds = {
    lit: meshes.map((mesh) => mesh.material), unlit: meshes.map((mesh) => unlit(mesh.material)),
    normals: meshes.map(() => new THREE.MeshNormalMaterial()),
  };
  const [first] = meshes;

  await send("facts.json", JSON.stringify({
    skinned: meshes.every((mesh) => mesh.isSkinnedMesh), bones: first.skeleton ? first.skeleton.bones.length : 0,
    shapes: first.morphTargetDictionary, vertices: first.geometry.attributes.position.count,
    metalness: first.material.metalness, roughness: first.material.roughness, revision: THREE.REVISION,
    materials: Object.fromEntries(meshes.map(({ material }) => [
      material.name, { roughness: material.roughness, transparent: material.transparent, side: material.side }])),
  }));
  for (const [name, state] of Object.entries(job.states)) {
    pivot.rotation.y = THREE.MathUtils.degToRad(state.yaw ?? 0);
    if (state.centre) {  // a camera of its own
      pivot.position.set(...state.centre);
      gltf.scene.position.set(...state.centre).negate();
      camera.position.set(state.centre[0], state.centre[1], state.centre[2] + state.distance);
    }
    for (const mesh of meshes) {
      for (const [shape, number] of Object.entries(mesh.morphTargetDictionary)) {
        mesh.morphTargetInfluences[number] = state.shapes[shape] ?? 0;
      }
    }
    for (const bone of first.skeleton.bones) {
      const turn = state.turns?.[bone.userData.name ?? bone.name] ?? [0, 0, 0];
      const axis = new THREE.Vector3(...turn);
      bone.quaternion.setFromAxisAngle(axis.clone().normalize(), axis.length());
    }
    for (const kind of job.kinds ?? ["lit", "normals"]) {
      meshes.forEach((mesh, number) => { mesh.material = kinds[kind][number]; });
      renderer.setClearColor(kind === "lit" ? 0x55575c : 0x000000, 1);
      renderer.render(scene, camera);
      const blob = await new Promise((resolve) => renderer.domElement.toBlob(resolve, "image/png"));
      await send(`${name}_${kind}.png`, blob);
    }
  }
  await send("done", "");
}

main().catch((error) => send("error", String(error.stack ?? error)));
