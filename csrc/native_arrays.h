// Checks of arrays that come from Python: a wrong one is an error of ours, but it must not be read beyond its end.
#ifndef TOPOS_NATIVE_ARRAYS_H
#define TOPOS_NATIVE_ARRAYS_H

#include <pybind11/numpy.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace topos {

// An array as it is: another type or layout would be a copy.
template <class T>
using Array = pybind11::array_t<T, pybind11::array::c_style>;

template <class T>
void require_rows(const Array<T>& array, const char* name, pybind11::ssize_t rows, pybind11::ssize_t columns = 0) {
  const bool fits = columns ? array.ndim() == 2 && array.shape(1) == columns : array.ndim() == 1;
  if (!fits || (rows >= 0 && array.shape(0) != rows)) throw std::invalid_argument(std::string(name) + " has another shape");
}

inline void require_below(const Array<int32_t>& ids, pybind11::ssize_t count, const char* name) {
  for (pybind11::ssize_t i = 0; i < ids.size(); ++i) {
    if (ids.data()[i] < 0 || ids.data()[i] >= count) throw std::invalid_argument(std::string(name) + " are out of range");
  }
}

inline void require_offsets(const Array<int32_t>& offsets, pybind11::ssize_t parts, pybind11::ssize_t count,
                            const char* name) {
  require_rows(offsets, name, parts < 0 ? -1 : parts + 1);
  const int32_t* value = offsets.data();
  const pybind11::ssize_t last = offsets.size() - 1;
  bool fits = last >= 0 && value[0] == 0 && value[last] == count;
  for (pybind11::ssize_t i = 0; fits && i < last; ++i) fits = value[i] <= value[i + 1];
  if (!fits) throw std::invalid_argument(std::string(name) + " do not rise from 0 to the number of rows");
}

}  // namespace topos

#endif
