// A file's bytes in memory, mapped and not read.
#ifndef TOPOS_SDK_MAPPING_H
#define TOPOS_SDK_MAPPING_H

#include <cstddef>
#include <cstdint>

namespace topos {

class Mapping {
 public:
  // path: UTF-8. Throws a Fault for a file that cannot be mapped, or is empty.
  explicit Mapping(const char* path);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  const uint8_t* data() const { return data_; }
  uint64_t size() const { return size_; }

 private:
  const uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace topos

#endif
