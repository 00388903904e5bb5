#include "pack.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "fault.h"
#include "sha256.h"
#include "utf8.h"

namespace topos {
namespace {

constexpr size_t kItem[] = {0, 1, 2, 4, 4, 2, 4, 8, 1, 1};  // by PackType
constexpr uint16_t kLastType = static_cast<uint16_t>(PackType::kBytes);
constexpr const char* kFix = "make the pack again with 'topos-rt pack'";

std::string named(uint16_t kind, uint16_t index) {
  return "section " + std::to_string(kind) + " number " + std::to_string(index);
}

[[noreturn]] void damaged(const std::string& what, const std::string& got, const std::string& expected) {
  fail(TOPOS_E_PACK, "the pack is damaged: " + what, got, expected, kFix);
}

uint64_t aligned(uint64_t offset) { return (offset + kPackAlign - 1) / kPackAlign * kPackAlign; }

bool equal(const std::array<uint8_t, 32>& digest, const uint8_t* wanted) {
  return std::memcmp(digest.data(), wanted, digest.size()) == 0;
}

}  // namespace

Pack::Pack(const uint8_t* data, uint64_t size) : data_(data), size_(size) {
  PackHeader head{};
  if (size >= sizeof head) std::memcpy(&head, data, sizeof head);
  if (std::memcmp(head.magic, kPackMagic, sizeof kPackMagic) != 0) {
    fail(TOPOS_E_PACK, "the pack", "something that is none", "an engine pack", kFix);
  }
  if (head.version != kPackVersion) {
    fail(TOPOS_E_PACK, "version of the pack", std::to_string(head.version), std::to_string(kPackVersion),
         head.version > kPackVersion ? "use a later version of this library" : kFix);
  }
  if (head.size != size) damaged("its size", std::to_string(size) + " bytes", std::to_string(head.size));
  if (head.zero != 0 || head.sections == 0 || head.sections > kMaxSections) {
    damaged("its header", std::to_string(head.sections) + " sections", "1 to " + std::to_string(kMaxSections));
  }
  const uint64_t end_of_table = sizeof head + head.sections * sizeof(PackRow);
  if (end_of_table > size) damaged("its table", "the end of the file", "all of the table");
  Sha256 hash;
  hash.add(data, offsetof(PackHeader, sha256));
  hash.add(data + sizeof head, head.sections * sizeof(PackRow));
  if (!equal(hash.finish(), head.sha256)) damaged("its table", "another SHA-256", "that of the header");
  table_ = reinterpret_cast<const PackRow*>(data + sizeof head);
  sections_ = head.sections;
  uint64_t end = end_of_table;
  for (uint32_t at = 0; at < sections_; ++at) {
    const PackRow& row = table_[at];
    if (at > 0) {
      const PackRow& before = table_[at - 1];
      if (row.kind < before.kind || (row.kind == before.kind && row.index <= before.index)) {
        damaged(named(row.kind, row.index), "a place out of order", "rising kinds and numbers");
      }
    }
    check_row(row, aligned(end));
    end = row.offset + row.size;
  }
  if (end != size) damaged("its size", std::to_string(size) + " bytes", std::to_string(end));
}

void Pack::check_row(const PackRow& row, uint64_t begin) const {
  const std::string what = named(row.kind, row.index);
  if (row.zero != 0 || row.type == 0 || row.type > kLastType) {
    damaged(what, "type " + std::to_string(row.type), "1 to " + std::to_string(kLastType));
  }
  if (row.offset != begin || row.size > size_ - std::min(begin, size_)) {
    damaged(what, std::to_string(row.size) + " bytes from byte " + std::to_string(row.offset),
            "a place inside the pack, from byte " + std::to_string(begin));
  }
  const PackType type = static_cast<PackType>(row.type);
  bool fits = row.columns > 0;
  if (type == PackType::kBytes) {
    fits = row.rows == 1 && row.columns == 1;
  } else if (type == PackType::kText) {
    const char* text = reinterpret_cast<const char*>(data_ + row.offset);
    const size_t size = static_cast<size_t>(row.size);
    fits = row.columns == 1 && static_cast<uint64_t>(std::count(text, text + size, '\0')) == row.rows &&
           (size == 0 || text[size - 1] == '\0') && is_utf8(text, size);
  } else {
    // Rows and columns have 32 bits, so that neither product overflows.
    const uint64_t count = uint64_t{row.rows} * row.columns, item = kItem[row.type];
    fits = fits && row.size % item == 0 && row.size / item == count;
  }
  if (!fits) damaged(what, std::to_string(row.size) + " bytes", std::to_string(row.rows) + " rows");
}

void Pack::verify() const {
  uint64_t end = sizeof(PackHeader) + sections_ * sizeof(PackRow);
  for (uint32_t at = 0; at < sections_; ++at) {
    const PackRow& row = table_[at];
    const std::string what = named(row.kind, row.index);
    for (uint64_t gap = end; gap < row.offset; ++gap) {
      if (data_[gap] != 0) damaged("the gap before " + what, "other bytes", "zeros");
    }
    Sha256 hash;
    hash.add(data_ + row.offset, static_cast<size_t>(row.size));
    if (!equal(hash.finish(), row.sha256)) damaged(what, "another SHA-256", "that of the table");
    end = row.offset + row.size;
  }
}

const PackRow* Pack::find(Kind kind, uint16_t index) const {
  const uint32_t wanted = uint32_t{static_cast<uint16_t>(kind)} << 16 | index;
  const PackRow* end = table_ + sections_;
  const PackRow* found = std::lower_bound(table_, end, wanted, [](const PackRow& row, uint32_t key) {
    return (uint32_t{row.kind} << 16 | row.index) < key;
  });
  return found != end && (uint32_t{found->kind} << 16 | found->index) == wanted ? found : nullptr;
}

const PackRow* Pack::checked(Kind kind, uint16_t index, PackType type, size_t columns) const {
  const PackRow* row = find(kind, index);
  if (row == nullptr) return nullptr;
  if (row->type != static_cast<uint16_t>(type) || (columns != 0 && row->columns != columns)) {
    damaged(named(row->kind, index), "type " + std::to_string(row->type) + " in " + std::to_string(row->columns) + " columns",
            "type " + std::to_string(static_cast<int>(type)) + " in " + std::to_string(columns));
  }
  return row;
}

void Pack::require_rows(Kind kind, uint16_t index, size_t found, size_t wanted) const {
  if (found != wanted) {
    damaged(named(static_cast<uint16_t>(kind), index), std::to_string(found) + " rows", std::to_string(wanted));
  }
}

Rows<uint8_t> Pack::file(Kind kind, uint16_t index) const {
  const PackRow* row = checked(kind, index, PackType::kBytes, 1);
  if (row == nullptr) damaged(named(static_cast<uint16_t>(kind), index), "none", "one");
  return {data_ + row->offset, static_cast<size_t>(row->size), 1};
}

bool PackFile::sound() const {
  Sha256 hash;
  hash.add(data, size);
  return equal(hash.finish(), sha256);
}

PackFile Pack::hashed_file(Kind kind, uint16_t index) const {
  const Rows<uint8_t> found = file(kind, index);
  return {found.data, found.rows, find(kind, index)->sha256};
}

size_t Pack::strings(Kind kind) const {
  const PackRow* row = checked(kind, 0, PackType::kText, 1);
  return row == nullptr ? 0 : row->rows;
}

const char* Pack::string(Kind kind, size_t at) const {
  if (at >= strings(kind)) return nullptr;
  const char* text = reinterpret_cast<const char*>(data_ + find(kind, 0)->offset);
  for (; at > 0; --at) text += std::strlen(text) + 1;
  return text;
}

}  // namespace topos
