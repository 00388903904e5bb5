// Memory, threads and log lines, as the host of the library wants them.
#ifndef TOPOS_SDK_HOST_H
#define TOPOS_SDK_HOST_H

#include <atomic>
#include <cstddef>
#include <new>
#include <string>
#include <vector>

#include "topos_rt.h"

namespace topos {

class Host {
 public:
  // The options have been checked; callbacks that are NULL become the system's own.
  explicit Host(const topos_runtime_options& options);

  void* take(size_t size, size_t alignment);  // throws std::bad_alloc
  void give_back(void* memory, size_t size, size_t alignment) noexcept;
  void log(topos_log_level level, const std::string& line) const noexcept;
  bool logs(topos_log_level level) const { return log_ != nullptr && level >= level_; }
  topos_log_level level() const { return log_ == nullptr ? topos_log_level{TOPOS_LOG_OFF} : level_; }

  // Starts a thread that calls run(argument) once. Throws a Fault where it cannot be started.
  void* start_thread(void(TOPOS_CALL* run)(void*), void* argument, const char* name);
  void join_thread(void* token) noexcept;

  uint64_t bytes() const { return bytes_; }
  uint64_t peak() const { return peak_; }

 private:
  topos_allocator allocator_{};
  topos_threads threads_{};
  topos_log_callback log_ = nullptr;
  void* log_user_ = nullptr;
  topos_log_level level_ = TOPOS_LOG_DEBUG;
  std::atomic<uint64_t> bytes_{0}, peak_{0};
};

// What standard containers take their memory from.
template <class T>
struct HostAllocator {
  using value_type = T;

  explicit HostAllocator(Host& from) : host(&from) {}
  template <class Other>
  HostAllocator(const HostAllocator<Other>& other) : host(other.host) {}  // NOLINT: containers convert it

  T* allocate(size_t count) {
    if (count > SIZE_MAX / sizeof(T)) throw std::bad_alloc();
    return static_cast<T*>(host->take(count * sizeof(T), kAlignment));
  }
  void deallocate(T* memory, size_t count) noexcept { host->give_back(memory, count * sizeof(T), kAlignment); }
  template <class Other>
  bool operator==(const HostAllocator<Other>& other) const { return host == other.host; }
  template <class Other>
  bool operator!=(const HostAllocator<Other>& other) const { return host != other.host; }

  static constexpr size_t kAlignment = alignof(T) < 64 ? 64 : alignof(T);
  Host* host;
};

template <class T>
using HostVector = std::vector<T, HostAllocator<T>>;

}  // namespace topos

#endif
