#include "rig_frames.h"

#include <algorithm>

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
  std::vector<double> terms(12 * count);
  std::vector<Vec3> skin;
  for (size_t i = 0; i < count; ++i) {
    if (skin_[i] != 0) skin.push_back(vec(&head[3 * i]));
    for (size_t r = 0; r < 3; ++r) {
      terms[12 * i + r] = static_cast<double>(head[3 * i + r]);
      for (size_t c = 0; c < 3; ++c) {
        terms[12 * i + 3 + 3 * r + c] = static_cast<double>(head[3 * i + r] * points_[3 * i + c]);
      }
    }
  }
  std::vector<Mat3> covariances;
  Mat3 total = {};
  for (size_t j = 0; j < nodes_.size(); ++j) {
    double sums[12] = {};
    for (size_t i = 0; i < count; ++i) {
      const double weight = static_cast<double>(weights_[j * count + i]);
      for (size_t k = 0; k < 12; ++k) sums[k] += weight * terms[12 * i + k];
    }
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
  for (size_t i = 0; i < made.size(); ++i) {
    Mat3 sum = {};
    const float* shares = blend_.data() + i * nodes.size();
    for (size_t j = 0; j < nodes.size(); ++j) {
      for (size_t k = 0; k < 9; ++k) sum[k] += static_cast<double>(shares[j]) * nodes[j][k];
    }
    for (size_t k = 0; k < 9; ++k) made[i][k] = static_cast<float>(sum[k]);
  }
  return made;
}

}  // namespace topos
