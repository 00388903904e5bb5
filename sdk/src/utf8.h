// Text of the border: UTF-8.
#ifndef TOPOS_SDK_UTF8_H
#define TOPOS_SDK_UTF8_H

#include <cstddef>
#include <string>

namespace topos {

// Whether bytes are UTF-8: no overlong forms, no surrogates.
bool is_utf8(const char* text, size_t size);

#ifdef _WIN32
std::wstring wide(const char* text);
#endif

}  // namespace topos

#endif
