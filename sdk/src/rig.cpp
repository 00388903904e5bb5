#include "rig.h"

#include <algorithm>

#include "rig_frames.h"
#include "rotation.h"

namespace topos {
namespace {

// Fractions of the template's radius.
constexpr double kNeighbourhood = 0.085, kMeeting = 0.08;
constexpr double kRigid = 0.1;  // a part bends only where a rotation and a shift leave more of its motion
constexpr double kRidge = 0.2;

Vec3 mean_of(const std::vector<Vec3>& points) {
  Vec3 sum = {};
  for (const Vec3& point : points) sum += point;
  return sum / static_cast<double>(points.size());
}

Mat3 without_identity(Mat3 m) {
  for (size_t k = 0; k < 9; k += 4) m[k] -= 1;
  return m;
}

// How one shape moves one rigid part: a rotation about its centre, a shift, and a remainder.
struct Piece {
  std::vector<size_t> entries, vertices, members;  // rows of the offsets, their vertices, and those of the whole part
  std::vector<float> share;
  Mat3 turn = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  Vec3 shift = {};
  std::vector<Vec3> rest;
};

// The contacts of one shape, and how their corrections are spread over the vertices that it moves.
struct Meeting {
  size_t begin = 0, end = 0;            // rows of the offsets
  std::vector<std::array<size_t, 2>> pairs;
  std::vector<std::array<int64_t, 2>> places;  // of the vertices in those rows; -1: the shape does not move it
  std::vector<Vec3> gaps;
  std::vector<std::array<double, 2>> shares;
  std::vector<float> spread;  // [rows][2 pairs]
};

// The inverse of a symmetric positive definite matrix [n][n], by Gauss-Jordan elimination.
void invert(std::vector<double>& m, size_t n) {
  std::vector<double> row(n), column(n);
  for (size_t k = 0; k < n; ++k) {
    const double pivot = m[k * n + k];
    for (size_t i = 0; i < n; ++i) {
      row[i] = m[k * n + i];
      column[i] = m[i * n + k];
    }
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) m[i * n + j] -= column[i] * (row[j] / pivot);
    }
    for (size_t i = 0; i < n; ++i) {
      m[k * n + i] = row[i] / pivot;
      m[i * n + k] = -column[i] / pivot;
    }
    m[k * n + k] = 1 / pivot;
  }
}

Piece piece_of(const RigData& rig, const std::vector<Vec3>& points, const RigFrames& frames, uint8_t label, size_t begin,
               size_t end) {
  Piece made;
  std::vector<Vec3> members, delta, arms;
  for (size_t i = 0; i < rig.vertices; ++i) {
    if (rig.parts[i] != label) continue;
    made.members.push_back(i);
    members.push_back(points[i]);
  }
  const Vec3 middle = mean_of(members);
  for (size_t entry = begin; entry < end; ++entry) {
    const auto vertex = static_cast<size_t>(rig.shape_index[entry]);
    if (rig.parts[vertex] != label) continue;
    made.entries.push_back(entry);
    made.vertices.push_back(vertex);
    delta.push_back(vec(rig.shape_delta + 3 * entry));
    arms.push_back(points[vertex] - middle);
  }
  if (delta.size() > 3) {
    const Vec3 centre = mean_of(arms), shift = mean_of(delta);
    Mat3 products = {};
    for (size_t i = 0; i < delta.size(); ++i) {
      const Vec3 own = arms[i] - centre, moved = own + delta[i] - shift;
      for (size_t k = 0; k < 9; ++k) products[k] += moved[k / 3] * own[k % 3];
    }
    made.turn = nearest_rotation(products);
  }
  const Mat3 turning = without_identity(made.turn);
  double left = 0, whole = 0;
  for (size_t i = 0; i < delta.size(); ++i) made.rest.push_back(delta[i] - turning * arms[i]);
  made.shift = mean_of(made.rest);
  for (size_t i = 0; i < delta.size(); ++i) {
    made.rest[i] = made.rest[i] - made.shift;
    left += dot(made.rest[i], made.rest[i]);
    whole += dot(delta[i], delta[i]);
  }
  if (std::sqrt(left) < kRigid * std::sqrt(whole)) std::fill(made.rest.begin(), made.rest.end(), Vec3{});
  made.share = frames.shares_at(middle);
  return made;
}

// exp of the distances between points and nodes, each row times an amount: [points][nodes].
std::vector<double> kernel(const std::vector<Vec3>& points, const std::vector<double>& amounts,
                           const std::vector<Vec3>& nodes, double sigma) {
  std::vector<double> made;
  for (size_t i = 0; i < points.size(); ++i) {
    for (const Vec3& node : nodes) {
      const Vec3 apart = points[i] - node;
      made.push_back(amounts[i] * std::exp(-dot(apart, apart) / (2 * sigma * sigma)));
    }
  }
  return made;
}

// Ridge regression: kernel coefficients whose field has the wanted values at the ends, spread over all points.
std::vector<float> spread_over(const std::vector<double>& at_all, const std::vector<double>& at_ends, size_t n) {
  std::vector<double> inverse(n * n), coefficients(n * n);
  for (size_t i = 0; i < n; ++i) {
    inverse[i * n + i] = kRidge;
    for (size_t j = 0; j < n; ++j) {
      for (size_t k = 0; k < n; ++k) inverse[i * n + j] += at_ends[k * n + i] * at_ends[k * n + j];
    }
  }
  invert(inverse, n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      for (size_t k = 0; k < n; ++k) coefficients[i * n + j] += inverse[i * n + k] * at_ends[j * n + k];
    }
  }
  std::vector<float> made(at_all.size());
  for (size_t row = 0; row < at_all.size() / n; ++row) {
    for (size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (size_t k = 0; k < n; ++k) sum += at_all[row * n + k] * coefficients[k * n + j];
      made[row * n + j] = static_cast<float>(sum);
    }
  }
  return made;
}

Meeting meeting_of(const RigData& rig, const std::vector<Vec3>& points, size_t shape, double sigma) {
  Meeting made;
  made.begin = static_cast<size_t>(rig.shape_offsets[shape]);
  made.end = static_cast<size_t>(rig.shape_offsets[shape + 1]);
  std::vector<Vec3> moved, delta, nodes;
  std::vector<double> lengths;
  for (size_t entry = made.begin; entry < made.end; ++entry) {
    moved.push_back(points[static_cast<size_t>(rig.shape_index[entry])]);
    delta.push_back(vec(rig.shape_delta + 3 * entry));
    lengths.push_back(length(delta.back()));
  }
  const double most = std::max(lengths.empty() ? 0.0 : *std::max_element(lengths.begin(), lengths.end()), 1e-12);
  std::vector<double> amounts, amounts_at_ends;
  for (const double each : lengths) amounts.push_back(each / most);
  const int32_t *first = rig.shape_index + made.begin, *last = rig.shape_index + made.end;
  for (int32_t i = rig.contact_offsets[shape]; i < rig.contact_offsets[shape + 1]; ++i) {
    std::array<size_t, 2> pair;
    std::array<int64_t, 2> places;
    std::array<double, 2> ways;
    std::array<Vec3, 2> ends;
    for (size_t k = 0; k < 2; ++k) {
      const int32_t id = rig.contact_pairs[2 * i + static_cast<int32_t>(k)];
      const int32_t* found = std::lower_bound(first, last, id);
      const bool moves = found != last && *found == id;
      const auto place = static_cast<size_t>(found - first);
      pair[k] = static_cast<size_t>(id);
      places[k] = moves ? found - first : -1;
      ways[k] = moves ? lengths[place] : 0;
      ends[k] = points[pair[k]] + (moves ? delta[place] : Vec3{});
      nodes.push_back(points[pair[k]]);
      amounts_at_ends.push_back(moves ? amounts[place] : 0);
    }
    const double both = std::max(ways[0] + ways[1], 1e-12);
    made.pairs.push_back(pair);
    made.places.push_back(places);
    made.gaps.push_back(ends[0] - ends[1]);
    made.shares.push_back({ways[0] / both, ways[1] / both});
  }
  made.spread = spread_over(kernel(moved, amounts, nodes, sigma), kernel(nodes, amounts_at_ends, nodes, sigma),
                            nodes.size());
  return made;
}

Vec3 turned(const std::array<float, 9>& m, const Vec3& v) {
  Mat3 wide;
  std::copy(m.begin(), m.end(), wide.begin());
  return wide * v;
}

void store(float* to, const Vec3& v) {
  for (size_t k = 0; k < 3; ++k) to[k] = static_cast<float>(v[k]);
}

void move_piece(const Piece& piece, const std::vector<float>& head, const std::vector<Mat3>& nodes, float* delta) {
  Mat3 frame = {};
  for (size_t j = 0; j < nodes.size(); ++j) {
    for (size_t k = 0; k < 9; ++k) frame[k] += static_cast<double>(piece.share[j]) * nodes[j][k];
  }
  const Mat3 axes = nearest_rotation(frame);
  const Mat3 turning = without_identity(axes * piece.turn * transposed(axes));
  Vec3 middle = {};
  for (const size_t i : piece.members) middle += vec(&head[3 * i]);
  middle = middle / static_cast<double>(piece.members.size());
  for (size_t i = 0; i < piece.entries.size(); ++i) {
    const Vec3 arm = vec(&head[3 * piece.vertices[i]]) - middle;
    store(delta + 3 * piece.entries[i], turning * arm + frame * (piece.shift + piece.rest[i]));
  }
}

void close_meeting(const Meeting& meeting, const std::vector<float>& head,
                   const std::vector<std::array<float, 9>>& frames, float* delta) {
  std::vector<Vec3> targets;
  for (size_t c = 0; c < meeting.pairs.size(); ++c) {
    std::array<Vec3, 2> ends;
    for (size_t k = 0; k < 2; ++k) {
      const int64_t place = meeting.places[c][k];
      ends[k] = vec(&head[3 * meeting.pairs[c][k]]);
      if (place >= 0) ends[k] += vec(delta + 3 * (meeting.begin + static_cast<size_t>(place)));
    }
    const auto &first = frames[meeting.pairs[c][0]], &second = frames[meeting.pairs[c][1]];
    const Vec3 wanted = (turned(first, meeting.gaps[c]) + turned(second, meeting.gaps[c])) / 2;
    const Vec3 lacking = wanted - (ends[0] - ends[1]);
    targets.push_back(lacking * meeting.shares[c][0]);
    targets.push_back(-lacking * meeting.shares[c][1]);
  }
  for (size_t entry = meeting.begin; entry < meeting.end; ++entry) {
    const float* spread = meeting.spread.data() + (entry - meeting.begin) * targets.size();
    Vec3 sum = {};
    for (size_t j = 0; j < targets.size(); ++j) sum += targets[j] * static_cast<double>(spread[j]);
    store(delta + 3 * entry, vec(delta + 3 * entry) + sum);
  }
}

}  // namespace

struct RigFit::Prepared {
  RigData rig;
  RigFrames frames;
  std::vector<Piece> pieces;
  std::vector<Meeting> meetings;

  Prepared(const RigData& data, const std::vector<Vec3>& points, double radius)
      : rig(data), frames(points, data.parts, kNeighbourhood * radius) {
    for (size_t shape = 0; shape < rig.shapes; ++shape) {
      const auto begin = static_cast<size_t>(rig.shape_offsets[shape]);
      const auto end = static_cast<size_t>(rig.shape_offsets[shape + 1]);
      bool present[256] = {};
      for (size_t entry = begin; entry < end; ++entry) present[rig.parts[rig.shape_index[entry]]] = true;
      for (size_t label = 1; label < 256; ++label) {
        if (!present[label]) continue;
        pieces.push_back(piece_of(rig, points, frames, static_cast<uint8_t>(label), begin, end));
      }
      if (rig.contact_offsets[shape + 1] > rig.contact_offsets[shape]) {
        meetings.push_back(meeting_of(rig, points, shape, kMeeting * radius));
      }
    }
  }
};

RigFit::RigFit(const RigData& rig) {
  std::vector<Vec3> points;
  for (size_t i = 0; i < rig.vertices; ++i) points.push_back(vec(rig.head + 3 * i));
  Vec3 low = points[0], high = points[0];
  for (const Vec3& point : points) {
    for (size_t k = 0; k < 3; ++k) {
      low[k] = std::min(low[k], point[k]);
      high[k] = std::max(high[k], point[k]);
    }
  }
  double radius = 0;
  for (const Vec3& point : points) radius = std::max(radius, length(point - (low + high) / 2));
  const Vec3 middle = mean_of(points);
  for (Vec3& point : points) point = point - middle;
  prepared_ = std::make_unique<const Prepared>(rig, points, radius);
}

RigFit::~RigFit() = default;

void RigFit::fit(const float* positions, float* joint_positions, float* shape_delta) const {
  const RigData& rig = prepared_->rig;
  Vec3 centre = {};  // float32 would lose the shape of a head far from the origin
  for (size_t i = 0; i < rig.vertices; ++i) centre += vec(positions + 3 * i);
  centre = centre / static_cast<double>(rig.vertices);
  std::vector<float> head(3 * rig.vertices);
  for (size_t i = 0; i < rig.vertices; ++i) store(&head[3 * i], vec(positions + 3 * i) - centre);
  const std::vector<Mat3> nodes = prepared_->frames.nodes(head);
  const std::vector<std::array<float, 9>> frames = prepared_->frames.vertices(nodes);
  for (int32_t entry = 0; entry < rig.shape_offsets[rig.shapes]; ++entry) {
    const auto vertex = static_cast<size_t>(rig.shape_index[entry]);
    store(shape_delta + 3 * entry, turned(frames[vertex], vec(rig.shape_delta + 3 * entry)));
  }
  for (const Piece& piece : prepared_->pieces) move_piece(piece, head, nodes, shape_delta);
  for (const Meeting& meeting : prepared_->meetings) close_meeting(meeting, head, frames, shape_delta);
  for (size_t joint = 0; joint < rig.joints; ++joint) {
    std::vector<Vec3> parts;
    for (int32_t i = rig.joint_offsets[joint]; i < rig.joint_offsets[joint + 1]; ++i) {
      const Vec3 vertex = vec(&head[3 * static_cast<size_t>(rig.joint_index[i])]);
      parts.push_back(vertex * static_cast<double>(rig.joint_weight[i]));
    }
    float local[3];
    store(local, parts.size() == 1 ? parts[0] : parts[0] + pairwise_sum(parts.data() + 1, parts.size() - 1));
    store(joint_positions + 3 * joint, vec(local) + centre);
  }
}

}  // namespace topos
