// The sum that the fit of a head to a face minimises: see head_fit.h.
#ifndef TOPOS_SDK_HEAD_PROBLEM_H
#define TOPOS_SDK_HEAD_PROBLEM_H

#include <vector>

#include "head_fit.h"

namespace topos {

// An estimate. A landmark X in the camera's axes is at (s X + u) / (1 - X_z / d) in the picture, whose unit is the
// outer-eye distance as it would be from the front.
struct HeadState {
  Mat3 turn;
  std::array<double, 2> middle;  // u, from the axis of the lens
  double scale, near;            // logs of s and 1 / d
  std::vector<double> weights;
};

class HeadProblem {
 public:
  // found: landmarks in the picture's units; lens: focal length in them, 0 where it is unknown.
  HeadProblem(const HeadFitter& head, std::vector<std::array<double, 2>> found, double lens, const float* scores);

  const std::vector<double>& expected() const { return expected_; }
  // The best state, searched from a first one.
  HeadState solve(HeadState state) const;
  // Root mean square distance of the skin's landmarks.
  double residual(const HeadState& state) const;

  // The log of a nearness, kept where a portrait may be taken from; and that of a portrait.
  static double within(double near);
  static double usual();

 private:
  struct View {
    std::array<double, 2> place;
    Vec3 turned;
    double depth;
  };
  struct Equations {
    std::vector<double> gradient, hessian;
  };

  View view(const HeadState& state, size_t landmark) const;
  double nearness(const HeadState& state) const;
  double cost(const HeadState& state) const;
  Equations normal_equations(const HeadState& state) const;
  void jacobian(const HeadState& state, size_t landmark, const View& seen, std::vector<double> (&rows)[2]) const;
  bool moved(const HeadState& state, const Equations& at, double damping, HeadState& out) const;

  const HeadFitter& head_;
  std::vector<std::array<double, 2>> found_;
  double lens_;
  std::vector<double> expected_, pull_;
};

}  // namespace topos

#endif
