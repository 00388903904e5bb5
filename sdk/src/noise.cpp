#include "noise.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "ziggurat.h"

namespace topos {
namespace {

constexpr int kRounds = 10;
constexpr int kPool = 4;  // words of a SeedSequence

struct Wide {
  uint64_t high, low;
};

// 64 x 64 -> 128 bits by halves, as not every compiler has a type of 128 bits.
Wide multiply(uint64_t a, uint64_t b) {
  constexpr uint64_t kLow = 0xFFFFFFFFU;
  const uint64_t low = (a & kLow) * (b & kLow);
  const uint64_t cross = (a >> 32U) * (b & kLow) + (low >> 32U);
  const uint64_t other = (a & kLow) * (b >> 32U) + (cross & kLow);
  return {(a >> 32U) * (b >> 32U) + (cross >> 32U) + (other >> 32U), a * b};
}

// NumPy's SeedSequence (O'Neill's seed_seq): hashes and mixes the words of a seed.
class SeedHash {
 public:
  SeedHash(uint32_t start, uint32_t factor) : state_(start), factor_(factor) {}

  uint32_t operator()(uint32_t value) {
    value ^= state_;
    state_ *= factor_;
    value *= state_;
    return value ^ (value >> 16U);
  }

 private:
  uint32_t state_, factor_;
};

uint32_t mixed(uint32_t x, uint32_t y) {
  const uint32_t made = 0xCA01F9DDU * x - 0x4973F715U * y;
  return made ^ (made >> 16U);
}

// 24 bits in 0 <= u < 1.
float unit(Philox& words) { return static_cast<float>(words.next() >> 8U) * (1.0F / 16777216.0F); }

// A number beyond the lowest layer, which lies at kTail or further out. NumPy calls this libm's log1pf; so does this,
// since the last bit differs from one libm to the next.
float tail(Philox& words) {
  for (;;) {
    const float x = -ziggurat::kInverseTail * std::log1p(-unit(words));
    const float y = -std::log1p(-unit(words));
    if (y + y > x * x) return ziggurat::kTail + x;
  }
}

float normal(Philox& words) {
  for (;;) {
    const uint32_t bits = words.next();
    const uint32_t layer = bits & 0xFFU, place = bits >> 9U;
    float x = static_cast<float>(place) * ziggurat::kWidth[layer];
    if ((bits & 0x100U) != 0) x = -x;
    if (place < ziggurat::kSure[layer]) return x;
    if (layer == 0) {
      const float far = tail(words);
      return (place & 0x100U) != 0 ? -far : far;
    }
    const float step = ziggurat::kDensity[layer - 1] - ziggurat::kDensity[layer];
    if (static_cast<double>(step * unit(words) + ziggurat::kDensity[layer]) <
        std::exp(-0.5 * static_cast<double>(x) * static_cast<double>(x))) {
      return x;
    }
  }
}

}  // namespace

Philox::Philox(uint64_t seed) {
  const uint32_t entropy[kPool] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32U), 0, 0};
  uint32_t pool[kPool];
  SeedHash in(0x43B0D7E5U, 0x931E8875U);
  for (int i = 0; i < kPool; ++i) pool[i] = in(entropy[i]);
  for (int from = 0; from < kPool; ++from) {
    for (int to = 0; to < kPool; ++to) {
      if (from != to) pool[to] = mixed(pool[to], in(pool[from]));
    }
  }
  SeedHash out(0x8B51F9DDU, 0x58F38DEDU);
  for (int i = 0; i < kPool; ++i) key_[i / 2] |= static_cast<uint64_t>(out(pool[i])) << (32 * (i % 2));
}

uint64_t Philox::word() {
  if (used_ < 4) return block_[used_++];
  for (uint64_t& part : counter_) {
    if (++part != 0) break;
  }
  std::copy(counter_, counter_ + 4, block_);
  uint64_t key[2] = {key_[0], key_[1]};
  for (int round = 0; round < kRounds; ++round) {
    const Wide a = multiply(0xD2E7470EE14C6C93U, block_[0]), b = multiply(0xCA5A826395121157U, block_[2]);
    const uint64_t next[4] = {b.high ^ block_[1] ^ key[0], b.low, a.high ^ block_[3] ^ key[1], a.low};
    std::copy(next, next + 4, block_);
    key[0] += 0x9E3779B97F4A7C15U;
    key[1] += 0xBB67AE8584CAA73BU;
  }
  used_ = 1;
  return block_[0];
}

uint32_t Philox::next() {
  has_half_ = !has_half_;
  if (!has_half_) return half_;
  const uint64_t both = word();
  half_ = static_cast<uint32_t>(both >> 32U);
  return static_cast<uint32_t>(both);
}

void noise(uint64_t seed, float* out, size_t count) {
  Philox words(seed);
  std::generate_n(out, count, [&words] { return normal(words); });
}

void scale_noise(float* noise, size_t count, double temperature) {
  const float scale = static_cast<float>(temperature);
  for (size_t i = 0; i < count; ++i) noise[i] *= scale;
}

void scale_noise(float* noise, size_t count, double temperature, const float* directions, size_t rows,
                 double open_temperature) {
  std::vector<double> inside(count);
  for (size_t row = 0; row < rows; ++row) {
    const float* direction = directions + row * count;
    double along = 0;
    for (size_t i = 0; i < count; ++i) along += static_cast<double>(direction[i]) * static_cast<double>(noise[i]);
    for (size_t i = 0; i < count; ++i) inside[i] += along * static_cast<double>(direction[i]);
  }
  for (size_t i = 0; i < count; ++i) {
    const double e = static_cast<double>(noise[i]);
    noise[i] = static_cast<float>(temperature * (e - inside[i]) + open_temperature * inside[i]);
  }
}

}  // namespace topos
