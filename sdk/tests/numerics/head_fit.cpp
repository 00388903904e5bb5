#include "head_fit.h"

#include <algorithm>

#include "shims.h"

// map: vertices, weights, noise, mirrored, irises (null without). shapes: index, delta, offsets. size, scores: null for
// none. numbers: turn, shift, focal, centre, residual. weights: [52], NaN where the head has no such shape. text: what
// was wrong, or the facts. Returns whether it fitted.
SHIM int32_t head_fit(const float* positions, const void* const* map, uint64_t count, const void* const* shapes,
                      const int32_t* ids, const float* landmarks, const int32_t* size, double focal,
                      const float* scores, double* numbers, double* weights, char* text) {
  const topos::LandmarkMap at = {static_cast<const int32_t*>(map[0]), static_cast<const float*>(map[1]),
                                 static_cast<const float*>(map[2]), static_cast<const int32_t*>(map[3]),
                                 static_cast<const int32_t*>(map[4])};
  const topos::Shapes own = {count, static_cast<const int32_t*>(shapes[0]), static_cast<const float*>(shapes[1]),
                             static_cast<const int32_t*>(shapes[2])};
  std::array<int, 52> numbered;
  std::copy_n(ids, 52, numbered.begin());
  const topos::HeadFitter fitter(positions, at, own, numbered);
  topos::HeadFit fit;
  std::string said = fitter.fit(landmarks, size, focal, scores, &fit);
  const bool fits = said.empty();
  if (fits) {
    said = topos::fit_facts(fit, fitter.names());
    numbers = std::copy(fit.camera.turn.begin(), fit.camera.turn.end(), numbers);
    numbers = std::copy(fit.camera.shift.begin(), fit.camera.shift.end(), numbers);
    *numbers++ = fit.camera.focal;
    numbers = std::copy(fit.camera.centre.begin(), fit.camera.centre.end(), numbers);
    *numbers = fit.residual;
    for (size_t i = 0; i < fit.weights.size(); ++i) weights[fitter.names()[i]] = fit.weights[i];
  }
  *std::copy(said.begin(), said.end(), text) = 0;
  return fits ? 1 : 0;
}

SHIM void camera_project(const double* camera, const double* points, uint64_t n, double* out) {
  topos::HeadCamera made;
  std::copy_n(camera, 9, made.turn.begin());
  std::copy_n(camera + 9, 3, made.shift.begin());
  made.focal = camera[12];
  made.centre = {camera[13], camera[14]};
  for (uint64_t i = 0; i < n; ++i) {
    const auto at = made.project(topos::vec(points + 3 * i));
    out = std::copy(at.begin(), at.end(), out);
  }
}

SHIM uint64_t rounded_text(double value, int64_t digits, char* out) {
  const std::string made = topos::rounded_text(value, static_cast<int>(digits));
  std::copy(made.begin(), made.end(), out);
  return made.size();
}

SHIM const char* arkit_name(uint64_t i) { return topos::arkit_name(i); }
