// Functions of the border: status, version and runtime.
#include <thread>

#include "handles.h"
#include "structs.h"
#include "version.h"

#ifdef __linux__
#include <sched.h>
#endif

using namespace topos;

namespace {

constexpr uint32_t kMostThreads = 256, kUsualThreads = 8;
constexpr size_t kFirstOptions = offsetof(topos_runtime_options, cache_dir);

uint32_t usable_cores() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<uint32_t>(CPU_COUNT(&set));
#endif
  const uint32_t found = std::thread::hardware_concurrency();
  return found == 0 ? 1 : found;
}

topos_runtime_options checked(const topos_runtime_options* given, topos_allocator* allocator, topos_threads* threads) {
  topos_runtime_options options = taken_or_default(given, "topos_runtime_options", kFirstOptions);
  if (options.log_level < TOPOS_LOG_DEBUG || options.log_level > TOPOS_LOG_OFF) {
    fail(TOPOS_E_ARGUMENT, "log_level", std::to_string(options.log_level), "one of TOPOS_LOG_*");
  }
  if ((options.flags & ~uint32_t{TOPOS_RUNTIME_SPIN | TOPOS_RUNTIME_FAKE}) != 0) {
    fail(TOPOS_E_ARGUMENT, "topos_runtime_options.flags", std::to_string(options.flags), "bits of TOPOS_RUNTIME_*");
  }
  if (options.num_threads > kMostThreads) {
    fail(TOPOS_E_ARGUMENT, "num_threads", std::to_string(options.num_threads), "0 to 256");
  }
  if (options.num_threads == 0) options.num_threads = std::min(usable_cores(), kUsualThreads);
  if (options.allocator != nullptr) {
    *allocator = taken(options.allocator, "topos_allocator");
    options.allocator = allocator;
    if (allocator->alloc == nullptr || allocator->free == nullptr) {
      fail(TOPOS_E_ARGUMENT, "topos_allocator", "alloc or free NULL", "both");
    }
  }
  if (options.threads != nullptr) {
    *threads = taken(options.threads, "topos_threads");
    options.threads = threads;
    if (threads->create == nullptr || threads->join == nullptr) {
      fail(TOPOS_E_ARGUMENT, "topos_threads", "create or join NULL", "both");
    }
  }
  return options;
}

}  // namespace

extern "C" {

const char* topos_status_name(topos_status status) {
  static const char* const kNames[] = {
      "TOPOS_OK", "TOPOS_E_ARGUMENT", "TOPOS_E_IMAGE", "TOPOS_E_PACK", "TOPOS_E_IO", "TOPOS_E_BACKEND",
      "TOPOS_E_UNAVAILABLE", "TOPOS_E_UNSUPPORTED", "TOPOS_E_CANCELLED", "TOPOS_E_MEMORY", "TOPOS_E_CAPACITY",
      "TOPOS_E_NUMERIC", "TOPOS_E_STATE", "TOPOS_E_INTERNAL"};
  if (status == TOPOS_PENDING) return "TOPOS_PENDING";
  const bool known = status <= TOPOS_OK && status >= TOPOS_E_INTERNAL;
  return known ? kNames[-status] : "(unknown status)";
}

uint32_t topos_abi_version(void) { return TOPOS_ABI_VERSION; }

const char* topos_version_string(void) { return kVersionText; }

topos_status topos_runtime_create(const topos_runtime_options* options, topos_runtime** out, topos_error* error) {
  return guarded(error, [=] {
    need_out(out, "out of topos_runtime_create");
    topos_allocator allocator{};
    topos_threads threads{};
    hand_out(Runtime::make(checked(options, &allocator, &threads)), out);
    return TOPOS_OK;
  });
}

void topos_runtime_retain(topos_runtime* runtime) { retain(runtime); }
void topos_runtime_release(topos_runtime* runtime) { release(runtime); }

topos_status topos_runtime_get_info(topos_runtime* runtime, topos_runtime_info* out) {
  return guarded(nullptr, [=] {
    Runtime& of = needed(runtime, "runtime");
    topos_runtime_info info{};
    info.num_threads = of.threads();
    const Ort* ort = of.ort();
    info.ort_api = ort == nullptr ? 0 : ort->number();
    info.ort_version = ort == nullptr ? "" : ort->version();
    info.ort_library = ort == nullptr ? "" : ort->path();
    info.host_bytes = of.host().bytes();
    info.host_bytes_peak = of.host().peak();
    give(out, info, "topos_runtime_info");
    return TOPOS_OK;
  });
}

}  // extern "C"
