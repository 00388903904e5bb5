// The arguments of the texture passes as Python gives them, for bindings.cpp and native.cpp: addresses are integers, and
// 0 is null.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>

#include "kernels.h"

namespace topos {

using Address = std::uintptr_t;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

// Defines module.project_texture, which calls run(arguments, last); the last argument of Python is called `last`.
template <class Last, class Run>
void define_project_texture(pybind11::module_& module, const char* last, Run run) {
  using namespace pybind11::literals;
  const auto bound = [run](Address vertices, Address weights, Address attributes, Address picture, Address light,
                           Address base, int64_t texels, int height, int width, Address out, Last how) {
    ProjectTexture args{};
    args.vertices = at<int32_t>(vertices), args.weights = at<float>(weights);
    args.attributes = at<float>(attributes), args.picture = at<float>(picture), args.light = at<float>(light);
    args.base = at<float>(base), args.texels = texels, args.height = height, args.width = width;
    args.out = at<float>(out);
    run(args, how);
  };
  module.def("project_texture", bound, pybind11::kw_only(), "vertices"_a, "weights"_a, "attributes"_a, "picture"_a,
             "light"_a, "base"_a, "texels"_a, "height"_a, "width"_a, "out"_a, pybind11::arg(last));
}

// The same for finish_texture.
template <class Last, class Run>
void define_finish_texture(pybind11::module_& module, const char* last, Run run) {
  using namespace pybind11::literals;
  const auto bound = [run](Address base, Address cells, Address texels, Address window_cells, Address skin,
                           Address grain, Address hair, Address tone, Address srgb, const std::array<int, 6>& shape,
                           bool mirror, Address out, Last how) {
    FinishTexture args{};
    args.base = at<float>(base), args.cells = at<float>(cells), args.texels = at<float>(texels);
    args.window_cells = at<float>(window_cells), args.skin = at<float>(skin), args.grain = at<float>(grain);
    args.hair = at<float>(hair), args.tone = at<float>(tone), args.srgb = at<uint8_t>(srgb);
    args.side = shape[0], args.step = shape[1], args.top = shape[2], args.left = shape[3];
    args.height = shape[4], args.width = shape[5];
    args.mirror = mirror, args.out = at<uint8_t>(out);
    run(args, how);
  };
  module.def("finish_texture", bound, pybind11::kw_only(), "base"_a, "cells"_a, "texels"_a, "window_cells"_a, "skin"_a,
             "grain"_a, "hair"_a, "tone"_a, "srgb"_a, "shape"_a, "mirror"_a, "out"_a, pybind11::arg(last));
}

}  // namespace topos
