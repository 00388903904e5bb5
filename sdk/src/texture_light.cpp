// The light of a photograph over the normals of the head that it shows.
#include <algorithm>
#include <array>
#include <cmath>

#include "linear.h"
#include "statistics.h"
#include "texture_look.h"

namespace topos {
namespace {

// Stronger terms are less likely; those of the second order need more evidence.
constexpr double kRidge[kLightTerms] = {0, 0.0012, 0.0012, 0.0012, 0.006, 0.006, 0.006, 0.006, 0.006};
constexpr int kFitRounds = 5;
constexpr double kOdd = 0.16, kFirstOdd = 0.35;  // log units from the model at which a sample counts for half

using Terms = std::array<double, kLightTerms>;

// In single precision, as the passes over texels compute them.
Terms harmonics(const Vec3& normal) {
  const auto x = static_cast<float>(normal[0]), y = static_cast<float>(normal[1]), z = static_cast<float>(normal[2]);
  const float made[] = {1, x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1};
  Terms wide;
  std::copy(std::begin(made), std::end(made), wide.begin());
  return wide;
}

double trust_of(double weight, const Vec3& off, double odd) {
  const double largest = std::max({std::fabs(off[0]), std::fabs(off[1]), std::fabs(off[2])}) / odd;
  return weight / (1 + (largest * largest) * (largest * largest));
}

}  // namespace

Light fit_light(const std::vector<LitSample>& samples) {
  std::vector<Terms> terms;
  for (const LitSample& sample : samples) terms.push_back(harmonics(sample.normal));
  Vec3 middle;
  for (size_t c = 0; c < 3; ++c) {
    std::vector<double> column;
    for (const LitSample& sample : samples) column.push_back(sample.excess[c]);
    middle[c] = median(column);
  }
  std::vector<double> trust;
  for (const LitSample& sample : samples) trust.push_back(trust_of(sample.weight, sample.excess - middle, kFirstOdd));
  std::array<Vec3, kLightTerms> light = {};
  light[0] = middle;
  for (int round = 0; round < kFitRounds; ++round) {
    std::vector<double> normal(kLightTerms * kLightTerms), right[3];
    for (std::vector<double>& column : right) column.assign(kLightTerms, 0);
    double total = 0;
    for (size_t i = 0; i < samples.size(); ++i) {
      total += trust[i];
      for (size_t a = 0; a < kLightTerms; ++a) {
        const double weighted = terms[i][a] * trust[i];
        for (size_t b = 0; b < kLightTerms; ++b) normal[kLightTerms * a + b] += weighted * terms[i][b];
        for (size_t c = 0; c < 3; ++c) right[c][a] += weighted * samples[i].excess[c];
      }
    }
    for (size_t a = 0; a < kLightTerms; ++a) normal[(kLightTerms + 1) * a] += kRidge[a] * total;
    for (size_t c = 0; c < 3; ++c) {
      if (!solve(normal, right[c])) return {};  // there are samples of one normal alone
      for (size_t a = 0; a < kLightTerms; ++a) light[a][c] = right[c][a];
    }
    for (size_t i = 0; i < samples.size(); ++i) {
      Vec3 shade = {};
      for (size_t a = 0; a < kLightTerms; ++a) shade += light[a] * terms[i][a];
      trust[i] = trust_of(samples[i].weight, samples[i].excess - shade, kOdd);
    }
  }
  Terms share = {};
  double total = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    total += trust[i];
    for (size_t a = 0; a < kLightTerms; ++a) share[a] += terms[i][a] * trust[i];
  }
  Vec3 tone = {};
  for (size_t a = 0; a < kLightTerms; ++a) tone += light[a] * (share[a] / std::max(total, 1e-9));
  light[0] = light[0] - tone;
  Light made;
  for (size_t a = 0; a < kLightTerms; ++a) {
    for (size_t c = 0; c < 3; ++c) made.terms[a][c] = static_cast<float>(light[a][c]);
  }
  // Single precision, as Python has it from here on.
  for (size_t c = 0; c < 3; ++c) made.tone[c] = static_cast<double>(static_cast<float>(tone[c]));
  return made;
}

}  // namespace topos
