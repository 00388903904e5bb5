import { readFileSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";

// Vite 6, and not a later one: it runs on the Node.js 18 of Debian 12.

/** Put the licence of what the page contains beside it. */
function licences(): Plugin {
  return {
    name: "licences",
    generateBundle() {
      const { name, version, license } = JSON.parse(readFileSync("node_modules/three/package.json", "utf8")) as Record<string, string>;
      const text = readFileSync("node_modules/three/LICENSE", "utf8");
      const source = `# Licences\n\nThis page contains\n\n## ${name} - ${version} (${license})\n\n${text}`;
      this.emitFile({ type: "asset", fileName: "LICENSES.md", source });
    },
  };
}

// `npm run build` puts the page where the server looks for it. `npm run dev` serves it with reloading, and passes requests
// on to a `topos-rt serve` at its usual port.
export default defineConfig({
  base: "./",
  plugins: [licences()],
  build: {
    outDir: "../topos_rt/server/page",
    emptyOutDir: true,
    chunkSizeWarningLimit: 900, // kilobytes: three.js is most of it
  },
  server: { proxy: { "/v1": { target: "http://127.0.0.1:8000", ws: true } } },
});
