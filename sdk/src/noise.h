// The noise that a run of the sampler starts from, equal to topos_rt/flow/sampling.py and variation.py.
#ifndef TOPOS_SDK_NOISE_H
#define TOPOS_SDK_NOISE_H

#include <cstddef>
#include <cstdint>

namespace topos {

// Philox4x64-10 (Salmon et al. 2011), seeded by NumPy's SeedSequence: the words of numpy.random.Philox(seed).
class Philox {
 public:
  explicit Philox(uint64_t seed);
  uint32_t next();

 private:
  uint64_t word();

  uint64_t counter_[4] = {}, key_[2] = {}, block_[4] = {};
  int used_ = 4;
  bool has_half_ = false;
  uint32_t half_ = 0;
};

// Writes standard normal noise: numpy.random.Generator(Philox(seed)).standard_normal(count, float32).
void noise(uint64_t seed, float* out, size_t count);

// Multiplies float32 noise by a temperature, which becomes float32 first.
void scale_noise(float* noise, size_t count, double temperature);

// What Variation.scaled returns, in place: temperature (e - P e) + open_temperature P e, where P projects on the rows
// of directions [rows][count]. Sums run in float64 in the order of the numbers, as Python's do.
void scale_noise(float* noise, size_t count, double temperature, const float* directions, size_t rows,
                 double open_temperature);

}  // namespace topos

#endif
