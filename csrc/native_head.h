#ifndef TOPOS_NATIVE_HEAD_H
#define TOPOS_NATIVE_HEAD_H

#include <pybind11/pybind11.h>

namespace topos {

// Adds what native_head.cpp makes to the module.
void define_head(pybind11::module_& m);

}  // namespace topos

#endif
