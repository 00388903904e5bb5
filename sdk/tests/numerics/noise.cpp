#include "noise.h"

#include "shims.h"
#include "ziggurat.h"

SHIM void noise(uint64_t seed, float* out, uint64_t count) { topos::noise(seed, out, count); }

SHIM void words(uint64_t seed, uint32_t* out, uint64_t count) {
  topos::Philox philox(seed);
  for (uint64_t i = 0; i < count; ++i) out[i] = philox.next();
}

SHIM void scale_noise(float* noise, uint64_t count, double temperature) {
  topos::scale_noise(noise, count, temperature);
}

SHIM void scale_open_noise(float* noise, uint64_t count, double temperature, const float* directions, uint64_t rows,
                           double open_temperature) {
  topos::scale_noise(noise, count, temperature, directions, rows, open_temperature);
}

SHIM const uint32_t* ziggurat_sure() { return topos::ziggurat::kSure; }
SHIM const float* ziggurat_width() { return topos::ziggurat::kWidth; }
SHIM const float* ziggurat_density() { return topos::ziggurat::kDensity; }
