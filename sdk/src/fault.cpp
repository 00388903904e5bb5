#include "fault.h"

#include <algorithm>
#include <cstring>

#include "structs.h"

namespace topos {

std::string told(const std::string& what, const std::string& got, const std::string& expected,
                 const std::string& fix) {
  std::string line = what + ": got " + got;
  if (!expected.empty()) line += "; expected " + expected;
  if (!fix.empty()) line += "; fix: " + fix;
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return line;
}

void report(topos_error* error, topos_status status, const char* message) {
  if (error == nullptr || error->struct_size < offsetof(topos_error, message) + 1) return;
  const size_t room = std::min<size_t>(error->struct_size, sizeof(topos_error)) - offsetof(topos_error, message);
  size_t length = std::strlen(message);
  if (length >= room) {
    length = room - 1;
    while (length > 0 && (static_cast<unsigned char>(message[length]) & 0xc0) == 0x80) --length;
  }
  error->status = status;
  std::memcpy(error->message, message, length);
  error->message[length] = '\0';
}

}  // namespace topos
