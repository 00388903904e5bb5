// Order statistics, as NumPy computes them.
#ifndef TOPOS_SDK_STATISTICS_H
#define TOPOS_SDK_STATISTICS_H

#include <algorithm>
#include <cstddef>
#include <vector>

namespace topos {

// The value of a rank, counted from zero.
template <class T>
T of_rank(std::vector<T>& values, size_t rank) {
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(rank);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

// values: one or more.
template <class T>
T median(std::vector<T>& values) {
  const size_t half = values.size() / 2;
  const T upper = of_rank(values, half);
  if (values.size() % 2 != 0) return upper;
  return (*std::max_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(half)) + upper) / T{2};
}

}  // namespace topos

#endif
