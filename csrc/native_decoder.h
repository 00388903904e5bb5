#ifndef TOPOS_NATIVE_DECODER_H
#define TOPOS_NATIVE_DECODER_H

#include <pybind11/pybind11.h>

namespace topos {

void define_decoder(pybind11::module_& m);

}  // namespace topos

#endif
