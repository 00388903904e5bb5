#include "rig_frames.h"

#include <algorithm>
#include <cstring>

#include "rotation.h"

namespace topos {
namespace {

constexpr size_t kNodes = 300;
constexpr double kStiffness = 0.005;  // pull of a frame towards that of the whole head

// At most kNodes of the skin's points, each the farthest from those before it.
std::vector<Vec3> chosen(const std::vector<Vec3>& points, const uint8_t* parts) {
  std::vector<Vec3> skin;
  for (size_t i = 0; i < points.size(); ++i) {
    if (parts[i] == 0) skin.push_back(points[i]);
  }
  std::vector<Vec3> found = {skin.front()};
  std::vector<double> away;
  for (const Vec3& point : skin) away.push_back(length(point - found[0]));
  while (found.size() < std::min(kNodes, skin.size())) {
    const auto farthest = std::max_element(away.begin(), away.end());
    if (*farthest <= 0) break;
    found.push_back(skin[static_cast<size_t>(farthest - away.begin())]);
    for (size_t i = 0; i < skin.size(); ++i) away[i] = std::min(away[i], length(skin[i] - found.back()));
  }
  return found;
}

double squared(const Vec3& v) { return dot(v, v); }

constexpr size_t kTerms = 12;   // numbers side by side that are summed with the same weights
constexpr size_t kTogether = 4;  // sets of weights that share one pass over the terms

// The terms [count][kTerms], each times its weight, added up in their order, for kTogether sets of weights: the same bits
// as one after the other. GCC and Clang keep the sums in registers, and with AVX2, where glibc can choose, in half as many.
// ThreadSanitizer is not ready yet when glibc asks which one to take.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
__attribute__((target_clones("avx2", "default")))
#endif
void weighted_sums(const float* const* weights, const double* terms, size_t count, double* sums) {
#ifdef __GNUC__
  typedef double Four __attribute__((vector_size(4 * sizeof(double))));
  const auto read = [](const double* from, Four& to) { std::memcpy(&to, from, sizeof(to)); };
  // Written out: GCC would keep an array of these sums in memory.
  Four a0 = {}, a1 = {}, a2 = {}, b0 = {}, b1 = {}, b2 = {}, c0 = {}, c1 = {}, c2 = {}, d0 = {}, d1 = {}, d2 = {};
  for (size_t i = 0; i < count; ++i) {
    const double* from = terms + kTerms * i;
    const double a = static_cast<double>(weights[0][i]), b = static_cast<double>(weights[1][i]);
    const double c = static_cast<double>(weights[2][i]), d = static_cast<double>(weights[3][i]);
    Four x, y, z;
    read(from, x), read(from + 4, y), read(from + 8, z);
    a0 += x * a, a1 += y * a, a2 += z * a;
    b0 += x * b, b1 += y * b, b2 += z * b;
    c0 += x * c, c1 += y * c, c2 += z * c;
    d0 += x * d, d1 += y * d, d2 += z * d;
  }
  for (const Four& sum : {a0, a1, a2, b0, b1, b2, c0, c1, c2, d0, d1, d2}) {
    std::memcpy(sums, &sum, sizeof(sum));
    sums += 4;
  }
#else
  std::fill(sums, sums + kTogether * kTerms, 0.0);
  for (size_t set = 0; set < kTogether; ++set) {
    for (size_t i = 0; i < count; ++i) {
      const double weight = static_cast<double>(weights[set][i]);
      for (size_t k = 0; k < kTerms; ++k) sums[kTerms * set + k] += weight * terms[kTerms * i + k];
    }
  }
#endif
}

// weighted_sums of the rows [sets][count] of a matrix of weights: [sets][kTerms].
std::vector<double> products(const std::vector<float>& weights, size_t sets, const std::vector<double>& terms) {
  const size_t count = terms.size() / kTerms;
  std::vector<double> made(kTerms * (sets + kTogether));  // the last pass may repeat a row
  for (size_t first = 0; first < sets; first += kTogether) {
    const float* rows[kTogether];
    for (size_t k = 0; k < kTogether; ++k) rows[k] = weights.data() + std::min(first + k, sets - 1) * count;
    weighted_sums(rows, terms.data(), count, &made[kTerms * first]);
  }
  return made;
}

}  // namespace

double spread_of(const std::vector<Vec3>& points) {
  Vec3 mean = {};
  for (const Vec3& point : points) mean += point;
  mean = mean / static_cast<double>(points.size());
  double sum = 0;
  for (const Vec3& point : points) sum += squared(point - mean);
  return std::sqrt(sum / static_cast<double>(points.size()));
}

RigFrames::RigFrames(const std::vector<Vec3>& points, const uint8_t* parts, double sigma)
    : sigma_(sigma), nodes_(chosen(points, parts)), skin_(points.size()) {
  const size_t count = points.size(), n = nodes_.size();
  std::vector<Vec3> skin;
  weights_.resize(n * count);
  std::vector<double> wide(n * count), sums(n);
  for (size_t i = 0; i < count; ++i) {
    skin_[i] = parts[i] == 0;
    if (skin_[i] != 0) skin.push_back(points[i]);
    for (size_t k = 0; k < 3; ++k) points_.push_back(static_cast<float>(points[i][k]));
    const std::vector<float> shares = shares_at(points[i]);
    blend_.insert(blend_.end(), shares.begin(), shares.end());
    if (skin_[i] == 0) continue;
    const std::vector<double> exponents = exponents_at(points[i]);
    for (size_t j = 0; j < n; ++j) sums[j] += wide[j * count + i] = std::exp(exponents[j]);
  }
  own_size_ = spread_of(skin);
  for (size_t j = 0; j < n; ++j) {
    Vec3 mean = {};
    double squares = 0;
    for (size_t i = 0; i < count; ++i) {
      const double weight = wide[j * count + i] / sums[j];
      weights_[j * count + i] = static_cast<float>(weight);
      mean += points[i] * weight;
      squares += squared(points[i]) * weight;
    }
    means_.push_back(mean);
    variance_.push_back(std::max(squares - squared(mean), 1e-12));
  }
}

std::vector<double> RigFrames::exponents_at(const Vec3& point) const {
  std::vector<double> made;
  for (const Vec3& node : nodes_) made.push_back(squared(point - node) / (-2 * sigma_ * sigma_));
  return made;
}

std::vector<float> RigFrames::shares_at(const Vec3& point) const {
  std::vector<double> shares = exponents_at(point);
  // A far point takes its nearest node.
  const double most = *std::max_element(shares.begin(), shares.end());
  double sum = 0;
  for (double& share : shares) sum += share = std::exp(share - most);
  std::vector<float> made;
  for (const double share : shares) made.push_back(static_cast<float>(share / sum));
  return made;
}

std::vector<Mat3> RigFrames::nodes(const std::vector<float>& head) const {
  const size_t count = skin_.size();
  // Of each vertex: its place, and its products with the template's, in float32 as Python has them.
  std::vector<double> terms(kTerms * count);
  std::vector<Vec3> skin;
  for (size_t i = 0; i < count; ++i) {
    if (skin_[i] != 0) skin.push_back(vec(&head[3 * i]));
    for (size_t r = 0; r < 3; ++r) {
      terms[kTerms * i + r] = static_cast<double>(head[3 * i + r]);
      for (size_t c = 0; c < 3; ++c) {
        terms[kTerms * i + 3 + 3 * r + c] = static_cast<double>(head[3 * i + r] * points_[3 * i + c]);
      }
    }
  }
  std::vector<Mat3> covariances;
  Mat3 total = {};
  const std::vector<double> all = products(weights_, nodes_.size(), terms);
  for (size_t j = 0; j < nodes_.size(); ++j) {
    const double* sums = &all[kTerms * j];
    Mat3 made;
    for (size_t k = 0; k < 9; ++k) {
      made[k] = sums[3 + k] - sums[k / 3] * means_[j][k % 3];
      total[k] += made[k];
    }
    covariances.push_back(made);
  }
  const Mat3 overall = nearest_rotation(total);
  const double scale = spread_of(skin) / own_size_;
  for (size_t j = 0; j < nodes_.size(); ++j) {
    Mat3& own = covariances[j];
    for (size_t k = 0; k < 9; ++k) own[k] += kStiffness * scale * variance_[j] * overall[k];
    const Mat3 turn = nearest_rotation(own);
    double stretch = 0;
    for (size_t k = 0; k < 9; ++k) stretch += turn[k] * own[k];
    stretch /= variance_[j] * (1 + 3 * kStiffness);
    for (size_t k = 0; k < 9; ++k) own[k] = static_cast<double>(static_cast<float>(turn[k] * stretch));
  }
  return covariances;
}

std::vector<std::array<float, 9>> RigFrames::vertices(const std::vector<Mat3>& nodes) const {
  std::vector<std::array<float, 9>> made(skin_.size());
  std::vector<double> terms(kTerms * nodes.size());
  for (size_t j = 0; j < nodes.size(); ++j) std::copy(nodes[j].begin(), nodes[j].end(), &terms[kTerms * j]);
  const std::vector<double> sums = products(blend_, made.size(), terms);
  for (size_t i = 0; i < made.size(); ++i) {
    for (size_t k = 0; k < 9; ++k) made[i][k] = static_cast<float>(sums[kTerms * i + k]);
  }
  return made;
}

}  // namespace topos
