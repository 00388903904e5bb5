// Reads engine packs where they lie. Nothing is copied, and no byte is trusted: sizes, order and the hash of the table
// are checked before anything else is read.
#ifndef TOPOS_SDK_PACK_H
#define TOPOS_SDK_PACK_H

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "pack_format.h"

namespace topos {

// Rows of a section; no rows where a pack lacks it.
template <class T>
struct Rows {
  const T* data = nullptr;
  size_t rows = 0, columns = 0;

  size_t count() const { return rows * columns; }
  const T& operator[](size_t at) const { return data[at]; }
  const T* row(size_t at) const { return data + at * columns; }
};

// A file within a pack, and the SHA-256 [32] that the table gives for it, which loading does not check.
struct PackFile {
  const uint8_t* data = nullptr;
  size_t size = 0;
  const uint8_t* sha256 = nullptr;

  bool sound() const;  // whether its bytes have that hash
};

struct Half {
  uint16_t bits;
};

class Pack {
 public:
  Pack() = default;
  // data: 64-byte aligned; it must outlive the pack. Throws a Fault.
  Pack(const uint8_t* data, uint64_t size);

  // Checks every hash, and that gaps are zero. Throws a Fault.
  void verify() const;

  uint64_t size() const { return size_; }
  bool has(Kind kind, uint16_t index = 0) const { return find(kind, index) != nullptr; }

  // A section, or no rows where it is missing. columns 0: any. Throws a Fault for another type or width.
  template <class T>
  Rows<T> rows(Kind kind, size_t columns, uint16_t index = 0) const {
    const PackRow* row = checked(kind, index, type_of(static_cast<T*>(nullptr)), columns);
    if (row == nullptr) return {};
    return {reinterpret_cast<const T*>(data_ + row->offset), row->rows, row->columns};
  }
  // As `rows`, but it must have `count` rows.
  template <class T>
  Rows<T> exactly(Kind kind, size_t count, size_t columns, uint16_t index = 0) const {
    const Rows<T> found = rows<T>(kind, columns, index);
    require_rows(kind, index, found.rows, count);
    return found;
  }
  // A file within the pack; it must be there.
  Rows<uint8_t> file(Kind kind, uint16_t index = 0) const;
  PackFile hashed_file(Kind kind, uint16_t index = 0) const;
  // Strings, each ended by a zero byte: their number, and the text of one.
  size_t strings(Kind kind) const;
  const char* string(Kind kind, size_t at) const;  // nullptr past the end

 private:
  static constexpr PackType type_of(const uint8_t*) { return PackType::kU8; }
  static constexpr PackType type_of(const uint16_t*) { return PackType::kU16; }
  static constexpr PackType type_of(const int32_t*) { return PackType::kI32; }
  static constexpr PackType type_of(const uint32_t*) { return PackType::kU32; }
  static constexpr PackType type_of(const Half*) { return PackType::kF16; }
  static constexpr PackType type_of(const float*) { return PackType::kF32; }
  static constexpr PackType type_of(const double*) { return PackType::kF64; }

  const PackRow* find(Kind kind, uint16_t index) const;
  const PackRow* checked(Kind kind, uint16_t index, PackType type, size_t columns) const;
  void require_rows(Kind kind, uint16_t index, size_t found, size_t wanted) const;
  void check_row(const PackRow& row, uint64_t begin) const;

  const uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
  const PackRow* table_ = nullptr;
  uint32_t sections_ = 0;
};

}  // namespace topos

#endif
