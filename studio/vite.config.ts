import { defineConfig } from "vite";

// `npm run build` puts the page where the server looks for it. `npm run dev` serves it with reloading, and passes requests
// on to a `topos-rt serve` at its usual port.
export default defineConfig({
  base: "./",
  build: {
    outDir: "../topos_rt/server/page",
    emptyOutDir: true,
    license: { fileName: "LICENSES.md" },
    chunkSizeWarningLimit: 900, // kilobytes: three.js is most of it
  },
  server: { proxy: { "/v1": { target: "http://127.0.0.1:8000", ws: true } } },
});
