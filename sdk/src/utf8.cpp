#include "utf8.h"

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#endif

namespace topos {

bool is_utf8(const char* text, size_t size) {
  for (size_t at = 0; at < size;) {
    const unsigned char lead = static_cast<unsigned char>(text[at]);
    const size_t more = lead < 0x80 ? 0 : lead >= 0xc2 && lead < 0xe0 ? 1 : lead >= 0xe0 && lead < 0xf0 ? 2 : 3;
    if (more == 3 && (lead < 0xf0 || lead > 0xf4)) return false;
    if (more >= size - at) return false;
    for (size_t k = 1; k <= more; ++k) {
      const unsigned char c = static_cast<unsigned char>(text[at + k]);
      unsigned char low = 0x80, high = 0xbf;
      if (k == 1) {
        if (lead == 0xe0) low = 0xa0;
        if (lead == 0xed) high = 0x9f;
        if (lead == 0xf0) low = 0x90;
        if (lead == 0xf4) high = 0x8f;
      }
      if (c < low || c > high) return false;
    }
    at += 1 + more;
  }
  return true;
}

#ifdef _WIN32
std::wstring wide(const char* text) {
  const int size = MultiByteToWideChar(CP_UTF8, 0, text, -1, nullptr, 0);
  std::wstring out(size > 0 ? static_cast<size_t>(size) : 1, L'\0');
  MultiByteToWideChar(CP_UTF8, 0, text, -1, out.data(), size);
  out.resize(out.size() - 1);
  return out;
}
#endif

}  // namespace topos
