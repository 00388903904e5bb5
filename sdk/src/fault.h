// Errors inside the library: thrown as a Fault, and turned into a topos_status at the border.
#ifndef TOPOS_SDK_FAULT_H
#define TOPOS_SDK_FAULT_H

#include <exception>
#include <new>
#include <string>

#include "topos_rt.h"

namespace topos {

// One line: what is wrong, what was found, what was expected and how to fix it.
struct Fault {
  topos_status status;
  std::string message;
};

std::string told(const std::string& what, const std::string& got, const std::string& expected = "",
                 const std::string& fix = "");

[[noreturn]] inline void fail(topos_status status, const std::string& what, const std::string& got,
                              const std::string& expected = "", const std::string& fix = "") {
  throw Fault{status, told(what, got, expected, fix)};
}

// Writes an error where the caller wants one, cut at a character's border.
void report(topos_error* error, topos_status status, const char* message);

// Runs the body of a function of the border, and returns what came of it.
template <class Body>
topos_status guarded(topos_error* error, Body body) noexcept {
  try {
    const topos_status status = body();
    report(error, status, "");
    return status;
  } catch (const Fault& fault) {
    report(error, fault.status, fault.message.c_str());
    return fault.status;
  } catch (const std::bad_alloc&) {
    report(error, TOPOS_E_MEMORY, "an allocation failed; fix: free some memory, or give the allocator more");
    return TOPOS_E_MEMORY;
  } catch (const std::exception& exception) {
    report(error, TOPOS_E_INTERNAL, exception.what());
    return TOPOS_E_INTERNAL;
  } catch (...) {
    report(error, TOPOS_E_INTERNAL, "an unknown exception; fix: please report it");
    return TOPOS_E_INTERNAL;
  }
}

}  // namespace topos

#endif
