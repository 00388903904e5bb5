// node validate.js FILE.glb…   prints one JSON array: the Khronos validator's report of each file, in order.
const fs = require("fs");
const validator = require("gltf-validator");

async function main(paths) {
  const options = { maxIssues: 0, writeTimestamp: false };
  const reports = [];
  for (const path of paths) {
    reports.push(await validator.validateBytes(new Uint8Array(fs.readFileSync(path)), { uri: path, ...options }));
  }
  console.log(JSON.stringify(reports));
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
