// The C library's numbers of a head for Python: fits of rigs, normals of blendshapes, and fits to faces.
// topos_rt/head/rig_fit.py, formats/morphs.py and faces/fit.py call them, and have twins in NumPy for installations without
// this module.
#include "native_head.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <array>
#include <cmath>
#include <stdexcept>
#include <string>
#include <tuple>

#include "head_fit.h"
#include "morphs.h"
#include "native_arrays.h"
#include "rig.h"

namespace py = pybind11;
using namespace py::literals;

namespace {

using topos::Array;
using topos::require_below;
using topos::require_offsets;
using topos::require_rows;

class RigFitter {
 public:
  RigFitter(Array<int32_t> shape_index, Array<float> shape_delta, Array<int32_t> shape_offsets, Array<float> head,
         Array<int32_t> joint_index, Array<float> joint_weight, Array<int32_t> joint_offsets,
         Array<int32_t> contact_pairs, Array<int32_t> contact_offsets, Array<uint8_t> parts)
      : vertices_(head.shape(0)), joints_(joint_offsets.size() - 1), entries_(shape_index.size()),
        arrays_(py::make_tuple(shape_index, shape_delta, shape_offsets, head, joint_index, joint_weight, joint_offsets,
                               contact_pairs, contact_offsets, parts)) {
    const py::ssize_t shapes = shape_offsets.size() - 1;
    require_rows(head, "template", -1, 3);
    require_rows(parts, "parts", vertices_);
    require_rows(shape_index, "shape_index", -1);
    require_rows(shape_delta, "shape_delta", entries_, 3);
    require_offsets(shape_offsets, -1, entries_, "shape_offsets");
    require_below(shape_index, vertices_, "shape_index");
    require_rows(joint_weight, "joint_weight", joint_index.size());
    require_offsets(joint_offsets, -1, joint_index.size(), "joint_offsets");
    require_below(joint_index, vertices_, "joint_index");
    require_rows(contact_pairs, "contact_pairs", -1, 2);
    require_offsets(contact_offsets, shapes, contact_pairs.shape(0), "contact_offsets");
    require_below(contact_pairs, vertices_, "contact_pairs");
    topos::RigData rig;
    rig.vertices = static_cast<size_t>(vertices_);
    rig.joints = static_cast<size_t>(joints_);
    rig.shapes = static_cast<size_t>(shapes);
    rig.shape_index = shape_index.data();
    rig.shape_delta = shape_delta.data();
    rig.shape_offsets = shape_offsets.data();
    rig.head = head.data();
    rig.joint_index = joint_index.data();
    rig.joint_weight = joint_weight.data();
    rig.joint_offsets = joint_offsets.data();
    rig.contact_pairs = contact_pairs.data();
    rig.contact_offsets = contact_offsets.data();
    rig.parts = parts.data();
    const py::gil_scoped_release release;
    fit_ = std::make_unique<const topos::RigFit>(rig);
  }

  py::tuple fit(const Array<float>& positions) const {
    require_rows(positions, "positions", vertices_, 3);
    Array<float> joints({joints_, py::ssize_t{3}}), delta({entries_, py::ssize_t{3}});
    float *joints_out = joints.mutable_data(), *delta_out = delta.mutable_data();
    {
      const py::gil_scoped_release release;
      fit_->fit(positions.data(), joints_out, delta_out);
    }
    return py::make_tuple(joints, delta);
  }

 private:
  py::ssize_t vertices_, joints_, entries_;
  py::tuple arrays_;  // the fit reads them
  std::unique_ptr<const topos::RigFit> fit_;
};

Array<float> morph_normals(const Array<float>& positions, const Array<int32_t>& triangles, const Array<int32_t>& index,
                           const Array<float>& delta, const Array<int32_t>& offsets) {
  const py::ssize_t vertices = positions.shape(0);
  require_rows(positions, "positions", -1, 3);
  require_rows(triangles, "triangles", -1, 3);
  require_below(triangles, vertices, "triangles");
  require_rows(index, "index", -1);
  require_below(index, vertices, "index");
  require_rows(delta, "delta", index.size(), 3);
  require_offsets(offsets, -1, index.size(), "offsets");
  Array<float> made({index.size(), py::ssize_t{3}});
  float* out = made.mutable_data();
  const py::gil_scoped_release release;
  const topos::Shapes shapes{static_cast<size_t>(offsets.size() - 1), index.data(), delta.data(), offsets.data()};
  const topos::MorphNormals normals(positions.data(), static_cast<size_t>(vertices), triangles.data(),
                                    static_cast<size_t>(triangles.shape(0)));
  for (size_t shape = 0; shape < shapes.count; ++shape) normals.changes(shapes, shape, out + 3 * shapes.begin(shape));
  return made;
}

using Ids = Array<int32_t>;

// Returns what was wrong with the landmarks, or ""; turn, shift, focal length, centre and residual; and the weights, NaN
// where the rig has no such shape. map: vertices, weights, noise, mirrored and irises. shapes: index, delta and offsets,
// and the rig's number of each of ARKit's shapes.
py::tuple fit_face(const Array<float>& positions, const std::tuple<Ids, Array<float>, Array<float>, Ids, Ids>& map,
                   const std::tuple<Ids, Array<float>, Ids, Ids>& shapes, const Array<float>& landmarks,
                   std::optional<std::array<int, 2>> size, double focal, const Array<float>& scores) {
  constexpr py::ssize_t kSkin = 468, kAll = 478, kShapes = topos::kArkitShapes;
  const auto& [vertices, weights, noise, mirrored, irises] = map;
  const auto& [index, delta, offsets, ids] = shapes;
  const py::ssize_t count = positions.shape(0);
  require_rows(positions, "positions", -1, 3);
  require_rows(vertices, "map's vertices", kSkin, 3);
  require_rows(weights, "map's weights", kSkin, 3);
  require_rows(noise, "map's noise", kSkin);
  require_rows(mirrored, "map's mirrored", kSkin);
  require_rows(irises, "map's irises", irises.size() ? 2 : 0);
  require_below(vertices, count, "map's vertices");
  require_below(mirrored, kSkin, "map's mirrored");
  require_below(irises, count, "map's irises");
  require_rows(index, "index", -1);
  require_below(index, count, "index");
  require_rows(delta, "delta", index.size(), 3);
  require_offsets(offsets, -1, index.size(), "offsets");
  require_rows(ids, "ids", kShapes);
  require_rows(landmarks, "landmarks", kAll, 3);
  require_rows(scores, "scores", scores.size() ? kShapes : 0);
  std::array<int, topos::kArkitShapes> numbers;
  for (py::ssize_t i = 0; i < kShapes; ++i) {
    numbers[static_cast<size_t>(i)] = ids.data()[i];
    if (ids.data()[i] >= offsets.size() - 1) throw std::invalid_argument("ids are out of range");
  }
  const topos::LandmarkMap at = {vertices.data(), weights.data(), noise.data(), mirrored.data(),
                                 irises.size() ? irises.data() : nullptr};
  const topos::Shapes own = {static_cast<size_t>(offsets.size() - 1), index.data(), delta.data(), offsets.data()};
  std::array<double, topos::kArkitShapes> found;
  found.fill(std::nan(""));
  topos::HeadFit fit;
  std::string said;
  {
    const py::gil_scoped_release release;
    const topos::HeadFitter fitter(positions.data(), at, own, numbers);
    said = fitter.fit(landmarks.data(), size ? size->data() : nullptr, focal, scores.size() ? scores.data() : nullptr, &fit);
    for (size_t i = 0; i < fit.weights.size(); ++i) found[fitter.names()[i]] = fit.weights[i];
  }
  std::array<double, 16> camera = {};
  std::copy(fit.camera.turn.begin(), fit.camera.turn.end(), camera.begin());
  std::copy(fit.camera.shift.begin(), fit.camera.shift.end(), camera.begin() + 9);
  camera[12] = fit.camera.focal;
  std::copy(fit.camera.centre.begin(), fit.camera.centre.end(), camera.begin() + 13);
  camera[15] = fit.residual;
  return py::make_tuple(said, camera, found);
}

}  // namespace

namespace topos {

void define_head(py::module_& m) {
  py::class_<RigFitter>(m, "RigFitter")
      .def(py::init<Array<int32_t>, Array<float>, Array<int32_t>, Array<float>, Array<int32_t>, Array<float>,
                    Array<int32_t>, Array<int32_t>, Array<int32_t>, Array<uint8_t>>(),
           py::kw_only(), py::arg("shape_index").noconvert(), py::arg("shape_delta").noconvert(),
           py::arg("shape_offsets").noconvert(), py::arg("template").noconvert(), py::arg("joint_index").noconvert(),
           py::arg("joint_weight").noconvert(), py::arg("joint_offsets").noconvert(),
           py::arg("contact_pairs").noconvert(), py::arg("contact_offsets").noconvert(), py::arg("parts").noconvert())
      .def("fit", &RigFitter::fit, py::arg("positions").noconvert());
  m.def("morph_normals", &morph_normals, py::kw_only(), py::arg("positions").noconvert(),
        py::arg("triangles").noconvert(), py::arg("index").noconvert(), py::arg("delta").noconvert(),
        py::arg("offsets").noconvert());
  m.def("fit_face", &fit_face, py::kw_only(), "positions"_a, "map"_a, "shapes"_a, "landmarks"_a, "size"_a, "focal"_a,
        "scores"_a);
}

}  // namespace topos
