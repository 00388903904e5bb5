// node validate.js FILE…   prints one JSON array: the Khronos validator's report of each .glb or .gltf, in order.
const fs = require("fs");
const path = require("path");
const validator = require("gltf-validator");

async function main(files) {
  const options = { maxIssues: 0, writeTimestamp: false };
  const reports = [];
  for (const file of files) {
    // what lies beside a .gltf
    const read = (uri) => Promise.resolve(
      new Uint8Array(fs.readFileSync(path.join(path.dirname(file), decodeURIComponent(uri)))));
    reports.push(await validator.validateBytes(
      new Uint8Array(fs.readFileSync(file)), { uri: file, externalResourceFunction: read, ...options }));
  }
  console.log(JSON.stringify(reports));
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
