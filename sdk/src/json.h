// JSON text as Python's json.dumps writes it, without blanks.
#ifndef TOPOS_SDK_JSON_H
#define TOPOS_SDK_JSON_H

#include <cstdint>
#include <string>
#include <string_view>

namespace topos {

// A number as Python's repr writes it: the fewest digits that read back as the same float64.
std::string number_text(double value);

// Builds a text from its start to its end; commas come by themselves.
class Json {
 public:
  Json& open(char bracket);   // '{' or '['
  Json& close(char bracket);  // '}' or ']'
  Json& key(std::string_view name);
  Json& text(std::string_view value);
  Json& whole(int64_t value);
  Json& real(double value);
  Json& truth(bool value);
  Json& raw(std::string_view json);  // a value that is JSON already
  Json& raw_members(std::string_view json) { return value(json); }  // of an object: "name":value,...

  Json& text(std::string_view name, std::string_view value) { return key(name).text(value); }
  Json& whole(std::string_view name, int64_t value) { return key(name).whole(value); }
  Json& real(std::string_view name, double value) { return key(name).real(value); }
  Json& raw(std::string_view name, std::string_view json) { return key(name).raw(json); }

  const std::string& str() const { return made_; }

 private:
  Json& value(std::string_view json);
  void quote(std::string_view value);

  std::string made_;
  bool first_ = true;  // whether the next value needs no comma before it
};

}  // namespace topos

#endif
