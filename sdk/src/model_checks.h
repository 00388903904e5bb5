// Checks of what a pack says of a model. All throw a Fault.
#ifndef TOPOS_SDK_MODEL_CHECKS_H
#define TOPOS_SDK_MODEL_CHECKS_H

#include <cmath>
#include <string>

#include "fault.h"
#include "pack.h"

namespace topos {

[[noreturn]] inline void wrong(const std::string& what, const std::string& got, const std::string& expected) {
  fail(TOPOS_E_PACK, what + " of the pack", got, expected, "make the pack again with 'topos-rt pack'");
}

template <class T>
void require_below(const Rows<T>& ids, int64_t low, int64_t end, const char* what) {
  for (size_t at = 0; at < ids.count(); ++at) {
    const int64_t id = ids[at];
    if (id < low || id >= end) {
      wrong(what, std::to_string(id), std::to_string(low) + " to " + std::to_string(end - 1));
    }
  }
}

inline void require_finite(const Rows<float>& numbers, const char* what) {
  for (size_t at = 0; at < numbers.count(); ++at) {
    if (!(std::fabs(numbers[at]) <= 1e6F)) wrong(what, "a number that is not finite, or huge", "numbers up to 1e6");
  }
}

// Offsets rise from 0 to the number of what they divide.
inline void require_offsets(const Rows<int32_t>& offsets, size_t end, const char* what) {
  bool fits = offsets.rows > 0 && offsets[0] == 0 && static_cast<size_t>(offsets[offsets.rows - 1]) == end;
  for (size_t at = 1; at < offsets.rows; ++at) fits = fits && offsets[at] >= offsets[at - 1];
  if (!fits) wrong(what, "other numbers", "numbers that rise from 0 to " + std::to_string(end));
}

}  // namespace topos

#endif
