// What this library asks the processor and the system.
#ifndef TOPOS_SDK_CPU_H
#define TOPOS_SDK_CPU_H

#include <cstdint>
#include <string>

namespace topos {

// Bytes that differ between kinds of CPU, such as those with other vector instructions; "" where nothing tells.
std::string cpu_kind();

int64_t process_number();

// Gives freed memory of the heap back to the system, where the C library keeps it.
void trim_heap();

}  // namespace topos

#endif
