#include "mapping.h"

#include <cerrno>
#include <cstring>
#include <string>

#include "fault.h"
#include "utf8.h"

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace topos {
namespace {

[[noreturn]] void unreadable(const char* path, const std::string& reason) {
  fail(TOPOS_E_IO, std::string("pack ") + path, reason, "a file that can be read");
}

}  // namespace

#ifdef _WIN32

Mapping::Mapping(const char* path) {
  const HANDLE file = CreateFileW(wide(path).c_str(), GENERIC_READ, FILE_SHARE_READ, nullptr, OPEN_EXISTING,
                                  FILE_ATTRIBUTE_NORMAL, nullptr);
  if (file == INVALID_HANDLE_VALUE) unreadable(path, "system error " + std::to_string(GetLastError()));
  LARGE_INTEGER size{};
  HANDLE mapping = nullptr;
  if (GetFileSizeEx(file, &size) && size.QuadPart > 0) {
    mapping = CreateFileMappingW(file, nullptr, PAGE_READONLY, 0, 0, nullptr);
  }
  const DWORD code = GetLastError();
  CloseHandle(file);
  if (mapping == nullptr) unreadable(path, size.QuadPart > 0 ? "system error " + std::to_string(code) : "an empty file");
  data_ = static_cast<const uint8_t*>(MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0));
  CloseHandle(mapping);
  if (data_ == nullptr) unreadable(path, "no room in the address space");
  size_ = static_cast<uint64_t>(size.QuadPart);
}

Mapping::~Mapping() { UnmapViewOfFile(data_); }

#else

Mapping::Mapping(const char* path) {
  // Not blocking: a pipe without a writer would wait for ever.
  const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) unreadable(path, std::strerror(errno));
  struct stat state {};
  std::string reason;
  void* memory = MAP_FAILED;
  if (fstat(file, &state) != 0) {
    reason = std::strerror(errno);
  } else if (!S_ISREG(state.st_mode)) {
    reason = "a directory, device or pipe";
  } else if (state.st_size == 0) {
    reason = "an empty file";
  } else {
    memory = mmap(nullptr, static_cast<size_t>(state.st_size), PROT_READ, MAP_PRIVATE, file, 0);
    if (memory == MAP_FAILED) reason = std::strerror(errno);
  }
  close(file);
  if (memory == MAP_FAILED) unreadable(path, reason);
  data_ = static_cast<const uint8_t*>(memory);
  size_ = static_cast<uint64_t>(state.st_size);
}

Mapping::~Mapping() { munmap(const_cast<uint8_t*>(data_), static_cast<size_t>(size_)); }

#endif

}  // namespace topos
