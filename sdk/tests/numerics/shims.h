// What the functions of this library look like from outside.
#ifndef TOPOS_SDK_TESTS_SHIMS_H
#define TOPOS_SDK_TESTS_SHIMS_H

#include <cstdint>

#if defined(_WIN32)
#define SHIM extern "C" __declspec(dllexport)
#else
#define SHIM extern "C" __attribute__((visibility("default")))
#endif

#endif
