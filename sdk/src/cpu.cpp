#include "cpu.h"

#include <cstdlib>

#if defined(__x86_64__) || defined(_M_X64)
#define TOPOS_X86
#ifdef _MSC_VER
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif
#ifdef _WIN32
#include <process.h>
#else
#include <unistd.h>
#endif
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace topos {
namespace {

#ifdef TOPOS_X86
struct Registers {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(uint32_t leaf, uint32_t sub) {
  Registers found;
#ifdef _MSC_VER
  int told[4];
  __cpuidex(told, static_cast<int>(leaf), static_cast<int>(sub));
  found = {static_cast<uint32_t>(told[0]), static_cast<uint32_t>(told[1]), static_cast<uint32_t>(told[2]),
           static_cast<uint32_t>(told[3])};
#else
  __get_cpuid_count(leaf, sub, &found.a, &found.b, &found.c, &found.d);
#endif
  return found;
}
#endif

}  // namespace

std::string cpu_kind() {
  std::string bytes;
#ifdef TOPOS_X86
  const auto add = [&bytes](uint32_t number) {
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(number >> shift & 0xff);
  };
  const Registers vendor = cpuid(0, 0), model = cpuid(1, 0);
  add(vendor.b), add(vendor.c), add(vendor.d);
  add(model.a), add(model.c), add(model.d);  // b tells which core this is
  for (uint32_t sub = 0; sub < 2; ++sub) {
    const Registers features = cpuid(7, sub);
    add(features.a), add(features.b), add(features.c), add(features.d);
  }
#endif
  return bytes;
}

int64_t process_number() {
#ifdef _WIN32
  return _getpid();
#else
  return getpid();
#endif
}

void trim_heap() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

}  // namespace topos
