#include "linear.h"

#include <cmath>
#include <utility>

namespace topos {

bool solve(std::vector<double> matrix, std::vector<double>& right) {
  const size_t n = right.size();
  for (size_t k = 0; k < n; ++k) {
    size_t pivot = k;
    for (size_t i = k + 1; i < n; ++i) {
      if (std::fabs(matrix[i * n + k]) > std::fabs(matrix[pivot * n + k])) pivot = i;
    }
    if (matrix[pivot * n + k] == 0) return false;
    if (pivot != k) {
      for (size_t j = k; j < n; ++j) std::swap(matrix[k * n + j], matrix[pivot * n + j]);
      std::swap(right[k], right[pivot]);
    }
    for (size_t i = k + 1; i < n; ++i) {
      const double times = matrix[i * n + k] / matrix[k * n + k];
      for (size_t j = k; j < n; ++j) matrix[i * n + j] -= times * matrix[k * n + j];
      right[i] -= times * right[k];
    }
  }
  for (size_t k = n; k-- > 0;) {
    for (size_t j = k + 1; j < n; ++j) right[k] -= matrix[k * n + j] * right[j];
    right[k] /= matrix[k * n + k];
  }
  return true;
}

}  // namespace topos
