// Small pictures of weights and colours: blurring, scaling and filling them. Twin of topos_rt/texture/grids.py, bit for bit.
#ifndef TOPOS_SDK_GRIDS_H
#define TOPOS_SDK_GRIDS_H

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace topos {

// Rows of cells from the top; a cell has some numbers.
template <class T>
struct GridOf {
  int height = 0, width = 0, channels = 1;
  std::vector<T> values;

  GridOf() = default;
  GridOf(int high, int wide, int depth = 1, T value = T{})
      : height(high), width(wide), channels(depth),
        values(static_cast<size_t>(high) * static_cast<size_t>(wide) * static_cast<size_t>(depth), value) {}

  size_t cells() const { return static_cast<size_t>(height) * static_cast<size_t>(width); }
  size_t depth() const { return static_cast<size_t>(channels); }
  size_t index(int y, int x) const {
    return (static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)) * depth();
  }
  T* at(int y, int x) { return values.data() + index(y, x); }
  const T* at(int y, int x) const { return values.data() + index(y, x); }
  T& operator[](size_t cell) { return values[cell]; }
  const T& operator[](size_t cell) const { return values[cell]; }
};
using Grid = GridOf<float>;
using Area = GridOf<uint8_t>;  // of 0 and 1

// A part of a grid: rows top to bottom, columns left to right.
struct Window {
  int top = 0, bottom = 0, left = 0, right = 0;

  int height() const { return bottom - top; }
  int width() const { return right - left; }
};

template <class T>
GridOf<T> part_of(const GridOf<T>& whole, const Window& window) {
  GridOf<T> made(window.height(), window.width(), whole.channels);
  for (int y = 0; y < made.height; ++y) {
    const T* row = whole.at(window.top + y, window.left);
    std::copy(row, row + static_cast<size_t>(made.width) * made.depth(), made.at(y, 0));
  }
  return made;
}

template <class T>
T bounded(T value, T low, T high) {
  return value < low ? low : value > high ? high : value;
}
inline float unit(float value) { return bounded(value, 0.0F, 1.0F); }
inline double unit(double value) { return bounded(value, 0.0, 1.0); }

inline float mean_of_channels(const float* values) { return (values[0] + values[1] + values[2]) / 3.0F; }

// Blurred by three box filters, which come near a Gaussian of sigma; beyond the rim lies what lies on it.
Grid blurred(const Grid& values, double sigma);

// Means of step x step blocks.
Grid shrunk(const Grid& values, int step);

// `step` times as large, bilinearly, as Pillow does it.
Grid grown(const Grid& values, int step);

// Values [S][S][C] where weights [S][S] are one, and smooth values between where they are less. S: a power of two.
Grid filled(const Grid& values, const Grid& weights);

// The part of `inside` that can be reached from `seed` within it.
Area largest_piece(const Area& inside, const Area& seed);

// How far inside an area each cell is, in cells.
Grid depth_inside(const Area& area);

}  // namespace topos

#endif
