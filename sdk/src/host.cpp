#include "host.h"

#include <cstdlib>
#include <memory>
#include <thread>

#include "fault.h"

#ifdef _WIN32
#include <malloc.h>
#endif

namespace topos {
namespace {

void* TOPOS_CALL system_alloc(void*, uint64_t size, uint64_t alignment) {
  const size_t place = alignment < sizeof(void*) ? sizeof(void*) : static_cast<size_t>(alignment);
#ifdef _WIN32
  return _aligned_malloc(static_cast<size_t>(size), place);
#else
  void* memory = nullptr;
  return posix_memalign(&memory, place, static_cast<size_t>(size)) == 0 ? memory : nullptr;
#endif
}

void TOPOS_CALL system_free(void*, void* memory, uint64_t, uint64_t) {
#ifdef _WIN32
  _aligned_free(memory);
#else
  std::free(memory);
#endif
}

void* TOPOS_CALL system_create(void*, void(TOPOS_CALL* run)(void*), void* argument, const char*) {
  try {
    return new std::thread(run, argument);
  } catch (...) {
    return nullptr;
  }
}

void TOPOS_CALL system_join(void*, void* token) {
  const std::unique_ptr<std::thread> thread(static_cast<std::thread*>(token));
  thread->join();
}

}  // namespace

Host::Host(const topos_runtime_options& options)
    : log_(options.log), log_user_(options.log_user), level_(options.log_level) {
  allocator_.alloc = system_alloc;
  allocator_.free = system_free;
  if (options.allocator != nullptr) allocator_ = *options.allocator;
  threads_.create = system_create;
  threads_.join = system_join;
  if (options.threads != nullptr) threads_ = *options.threads;
}

void* Host::take(size_t size, size_t alignment) {
  void* memory = allocator_.alloc(allocator_.user, size == 0 ? 1 : size, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  const uint64_t now = bytes_ += size;
  uint64_t peak = peak_;
  while (now > peak && !peak_.compare_exchange_weak(peak, now)) {
  }
  return memory;
}

void Host::give_back(void* memory, size_t size, size_t alignment) noexcept {
  allocator_.free(allocator_.user, memory, size == 0 ? 1 : size, alignment);
  bytes_ -= size;
}

void Host::log(topos_log_level level, const std::string& line) const noexcept {
  if (logs(level)) log_(log_user_, level, line.c_str());
}

void* Host::start_thread(void(TOPOS_CALL* run)(void*), void* argument, const char* name) {
  void* token = threads_.create(threads_.user, run, argument, name);
  if (token == nullptr) fail(TOPOS_E_MEMORY, "the thread of a job", "none", "", "allow this process more threads");
  return token;
}

void Host::join_thread(void* token) noexcept { threads_.join(threads_.user, token); }

}  // namespace topos
