// Structs that cross the border: read and written within the size that the caller's compiler gave them.
#ifndef TOPOS_SDK_STRUCTS_H
#define TOPOS_SDK_STRUCTS_H

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "fault.h"

namespace topos {

// The bytes of a struct of an older header end before the members that came later; those are zero then.
// first: how many bytes the first version of the struct has.
template <class Struct>
Struct taken(const Struct* given, const char* name, size_t first = sizeof(Struct)) {
  if (given == nullptr) fail(TOPOS_E_ARGUMENT, name, "NULL", "a struct");
  if (given->struct_size < first) {
    fail(TOPOS_E_ARGUMENT, std::string("struct_size of ") + name, std::to_string(given->struct_size),
         std::to_string(sizeof(Struct)) + ": sizeof", "set struct_size, or use TOPOS_STRUCT");
  }
  Struct own{};
  std::memcpy(&own, given, std::min<size_t>(given->struct_size, sizeof(Struct)));
  return own;
}

// As `taken`, but NULL means every default.
template <class Struct>
Struct taken_or_default(const Struct* given, const char* name, size_t first = sizeof(Struct)) {
  return given == nullptr ? Struct{} : taken(given, name, first);
}

// Writes a result into the caller's struct, whose struct_size stays.
template <class Struct>
void give(Struct* out, const Struct& value, const char* name, size_t first = sizeof(Struct)) {
  taken(out, name, first);
  const uint32_t size = out->struct_size;
  std::memcpy(out, &value, std::min<size_t>(size, sizeof(Struct)));
  out->struct_size = size;
}

// The item of a caller's array, whose structs are as large as the first one says.
template <class Struct>
const Struct* item(const Struct* first, size_t index) {
  return reinterpret_cast<const Struct*>(reinterpret_cast<const char*>(first) + index * first->struct_size);
}

}  // namespace topos

#endif
