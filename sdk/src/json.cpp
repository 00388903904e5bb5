#include "json.h"

#include <charconv>
#include <cmath>

namespace topos {
namespace {

constexpr int kFixedBelow = 16, kFixedFrom = -4;  // decimal exponents that Python writes without an "e"

std::string_view escape(char c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    default:
      return {};
  }
}

}  // namespace

std::string number_text(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  std::string_view text(buffer, static_cast<size_t>(end - buffer));
  std::string made;
  if (text.front() == '-') {
    made += '-';
    text.remove_prefix(1);
  }
  const size_t mark = text.find('e');
  int exponent = 0;
  const size_t sign = text[mark + 1] == '+' ? 2 : 1;
  std::from_chars(text.data() + mark + sign, text.data() + text.size(), exponent);
  std::string digits(1, text.front());
  if (mark > 1) digits += text.substr(2, mark - 2);
  const auto count = static_cast<int>(digits.size());
  if (exponent < kFixedFrom || exponent >= kFixedBelow) {
    made += digits.front();
    if (count > 1) made += '.' + digits.substr(1);
    made += exponent < 0 ? "e-" : "e+";
    const std::string power = std::to_string(std::abs(exponent));
    return made + (power.size() < 2 ? "0" : "") + power;
  }
  if (exponent < 0) return made + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  if (exponent + 1 >= count) return made + digits + std::string(static_cast<size_t>(exponent + 1 - count), '0') + ".0";
  return made + digits.substr(0, static_cast<size_t>(exponent) + 1) + '.' + digits.substr(static_cast<size_t>(exponent) + 1);
}

Json& Json::open(char bracket) {
  value({&bracket, 1});
  first_ = true;
  return *this;
}

Json& Json::close(char bracket) {
  made_ += bracket;
  first_ = false;
  return *this;
}

Json& Json::key(std::string_view name) {
  if (!first_) made_ += ',';
  quote(name);
  made_ += ':';
  first_ = true;
  return *this;
}

Json& Json::text(std::string_view text) {
  value({});
  quote(text);
  return *this;
}

Json& Json::whole(int64_t number) { return value(std::to_string(number)); }
Json& Json::real(double number) { return value(number_text(number)); }
Json& Json::truth(bool is) { return value(is ? "true" : "false"); }
Json& Json::raw(std::string_view json) { return value(json); }

Json& Json::value(std::string_view json) {
  if (!first_) made_ += ',';
  made_ += json;
  first_ = false;
  return *this;
}

void Json::quote(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  made_ += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (const std::string_view short_form = escape(c); !short_form.empty()) {
      made_ += short_form;
    } else if (byte < 0x20) {
      made_ += "\\u00";
      made_ += kHex[byte >> 4U];
      made_ += kHex[byte & 15U];
    } else {
      made_ += c;
    }
  }
  made_ += '"';
}

}  // namespace topos
