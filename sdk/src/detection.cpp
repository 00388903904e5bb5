#include "detection.h"

#include <algorithm>
#include <cmath>

namespace topos {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int kGrid = 48;
constexpr double kSame = 0.3;     // boxes that share so much of their union are one face
constexpr double kSmallest = 40;  // pixels: tiles go on until a face this large fills enough of one
constexpr double kSeen = 12;      // pixels of a face in the network's picture, from which on it is found reliably
constexpr size_t kMostTiles = 400;
constexpr int kQuarters = 4;

// The centres of tiles that cover a length and overlap by a third or more.
std::vector<double> starts(double length, double side) {
  if (length <= side) return {length / 2};
  const int count = static_cast<int>(std::ceil((length - side) / (side * 2 / 3))) + 1;
  const double first = side / 2, last = length - side / 2, step = (last - first) / (count - 1);
  std::vector<double> made;
  for (int i = 0; i < count; ++i) made.push_back(i == count - 1 ? last : i * step + first);
  return made;
}

double area(const Sides& box) { return std::max(box[2] - box[0], 0.0) * std::max(box[3] - box[1], 0.0); }

// The share of two boxes that both cover, of what either covers; 1 for a box and itself, even without area.
double overlap(const Sides& a, const Sides& b) {
  if (a == b) return 1;
  const Sides both = {std::max(a[0], b[0]), std::max(a[1], b[1]), std::min(a[2], b[2]), std::min(a[3], b[3])};
  const double shared = area(both), either = area(a) + area(b) - shared;
  return either > 0 ? shared / std::max(either, 1e-12) : 0;
}

Detection mean_of(const std::vector<Detection>& group) {
  Detection made;
  made.score = group.front().score;
  double sum = 0;
  for (const Detection& face : group) sum += face.score;
  for (const Detection& face : group) {
    const double share = face.score / sum;
    for (size_t k = 0; k < 4; ++k) made.box[k] += share * face.box[k];
    for (size_t k = 0; k < made.points.size(); ++k) {
      for (size_t axis = 0; axis < 2; ++axis) made.points[k][axis] += share * face.points[k][axis];
    }
  }
  return made;
}

}  // namespace

double Detection::side() const { return std::max(box[2] - box[0], box[3] - box[1]); }

Square Detection::square(double margin) const {
  const double across = points[1][0] - points[0][0], down = points[1][1] - points[0][1];
  return {(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, side() * margin, std::atan2(down, across)};
}

std::vector<Square> search_turn(int width, int height, int turn) {
  const double whole = std::max(width, height);
  if (turn < kQuarters) return {{width / 2.0, height / 2.0, whole, turn * kPi / 2}};
  double side = whole;
  for (int tiled = kQuarters; tiled <= turn; ++tiled) {
    if (side * kSeen / kDetectorSide <= kSmallest) return {};
    side /= 2;
  }
  const std::vector<double> columns = starts(width, side), rows = starts(height, side);
  if (columns.size() * rows.size() > kMostTiles) return {};
  std::vector<Square> made;
  for (const double y : rows) {
    for (const double x : columns) made.push_back({x, y, side, 0});
  }
  return made;
}

std::vector<Detection> decoded(const float* boxes, const float* scores, const Square& square) {
  const std::array<double, 6> m = square.matrix(1);
  const auto placed = [&m](double x, double y) -> std::array<double, 2> {
    return {m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5]};
  };
  std::vector<Detection> found;
  for (size_t cell = 0; cell < kDetectorCells; ++cell) {
    if (!(scores[cell] >= 0)) continue;  // below one half
    const float* values = boxes + 16 * cell;
    // In the square: 0 to 1.
    const double column = (static_cast<double>(cell % kGrid) + 0.5) / kGrid;
    const double row = (static_cast<double>(cell / kGrid) + 0.5) / kGrid;
    const auto point = [&](size_t k) {
      return placed(static_cast<double>(values[2 * k] / kDetectorSide) + column,
                    static_cast<double>(values[2 * k + 1] / kDetectorSide) + row);
    };
    Detection made;
    made.score = 1 / (1 + std::exp(-static_cast<double>(scores[cell])));
    // The box stays upright in the picture, whichever way the square is turned.
    const auto [x, y] = point(0);
    const float wide = std::max(values[2] / kDetectorSide, values[3] / kDetectorSide);
    const double half = static_cast<double>(wide) * square.side / 2;
    made.box = {x - half, y - half, x + half, y + half};
    for (size_t k = 0; k < made.points.size(); ++k) made.points[k] = point(2 + k);
    found.push_back(made);
  }
  return found;
}

std::vector<Detection> merged(std::vector<Detection> found) {
  std::stable_sort(found.begin(), found.end(), [](const Detection& a, const Detection& b) { return a.score > b.score; });
  std::vector<Detection> kept;
  while (!found.empty()) {
    const Sides first = found.front().box;
    const auto rest = std::stable_partition(found.begin(), found.end(),
                                            [&first](const Detection& face) { return overlap(first, face.box) > kSame; });
    kept.push_back(mean_of({found.begin(), rest}));
    found.erase(found.begin(), rest);
  }
  std::stable_sort(kept.begin(), kept.end(), [](const Detection& a, const Detection& b) { return a.side() > b.side(); });
  return kept;
}

bool overlaps(const Sides& box, const std::vector<Sides>& others) {
  return std::any_of(others.begin(), others.end(), [&box](const Sides& each) { return overlap(box, each) > kSame; });
}

}  // namespace topos
