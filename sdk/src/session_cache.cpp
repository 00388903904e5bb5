#include "session_cache.h"

#include <atomic>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

#include "cpu.h"
#include "fault.h"
#include "sha256.h"

#ifndef _WIN32
#include <fcntl.h>
#include <unistd.h>
#endif

namespace fs = std::filesystem;

namespace topos {
namespace {

constexpr const char* kFormat = "topos_rt optimised graph 1";
constexpr const char* kSizes = "sizes.txt";

[[noreturn]] void unusable(const fs::path& path, const std::string& reason) {
  fail(TOPOS_E_IO, "the cache of optimised graphs, " + path.u8string(), reason, "a folder that can be written",
       "set topos_runtime_options.cache_dir to one");
}

void require(const std::error_code& error, const fs::path& path) {
  if (error) unusable(path, error.message());
}

std::string hex(const std::array<uint8_t, 32>& digest) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (size_t at = 0; at < 16; ++at) {
    text += kDigits[digest[at] >> 4];
    text += kDigits[digest[at] & 15];
  }
  return text;
}

// The bytes of a file, or nothing.
std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

// What sizes.txt of a folder says: the sizes of both files, and the SHA-256 of the smaller one.
std::string sizes_of(const fs::path& folder) {
  std::error_code missing;
  const uintmax_t weights = fs::file_size(folder / kCachedWeights, missing);
  const std::string graph = read(folder / kCachedGraph);
  if (graph.empty()) return "";
  Sha256 hash;
  hash.add(graph.data(), graph.size());
  return std::to_string(missing ? 0 : weights) + " " + std::to_string(graph.size()) + " " + hex(hash.finish()) + "\n";
}

// Puts a file on the disk, so that its pages can be dropped.
void settle(const fs::path& path) {
#ifdef _WIN32
  (void)path;
#else
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  fsync(file);
  close(file);
#endif
}

void write(const fs::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.close();
  if (!file) unusable(path, "a file that cannot be written");
}

}  // namespace

SessionCache::SessionCache(const char* dir, const Ort& ort, const std::string& maker, const EngineSource& source) {
  const std::string cpu = cpu_kind();
  const fs::path base = fs::u8path(dir);
  if (cpu.empty()) unusable(base, "a CPU whose kind cannot be told");
  Sha256 hash;
  const auto add = [&hash](const char* text) { hash.add(text, std::strlen(text) + 1); };
  add(kFormat);
  add(ort.version());
  add(maker.c_str());
  add(ort.api().GetBuildInfoString());
  hash.add(cpu.data(), cpu.size());
  hash.add(source.graph.sha256, 32);
  if (source.weights.sha256 != nullptr) hash.add(source.weights.sha256, 32);
  folder_ = base / fs::u8path(source.name + "-" + hex(hash.finish()));
}

bool SessionCache::whole() const {
  const std::string told = read(folder_ / kSizes);
  return !told.empty() && told == sizes_of(folder_);
}

void SessionCache::drop() const {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

fs::path SessionCache::graph(const EngineSource& source, const std::function<void(const fs::path&)>& save) const {
  if (whole()) return folder_ / kCachedGraph;
  if (!source.graph.sound() || (source.weights.sha256 != nullptr && !source.weights.sound())) {
    fail(TOPOS_E_PACK, "graph " + source.name + " of the pack", "another SHA-256", "that of the table",
         "make the pack again with 'topos-rt pack'");
  }
  drop();  // what is left of one that is not whole
  static std::atomic<uint32_t> number{0};
  fs::path part = folder_;
  part += ".part-" + std::to_string(process_number()) + "-" + std::to_string(++number);
  std::error_code error;
  fs::create_directories(part, error);
  require(error, part);
  try {
    save(part);
    const std::string sizes = sizes_of(part);
    if (sizes.empty()) unusable(part, "files that cannot be read");
    write(part / kSizes, sizes);
    settle(part / kCachedWeights);
    fs::rename(part, folder_, error);
    if (error && !whole()) unusable(folder_, error.message());  // another process may have been quicker
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(part, ignored);
    throw;
  }
  fs::remove_all(part, error);
  return folder_ / kCachedGraph;
}

}  // namespace topos
