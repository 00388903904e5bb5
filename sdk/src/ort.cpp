#include "ort.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "fault.h"
#include "utf8.h"

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace topos {
namespace {

constexpr uint32_t kOldest = 23;
constexpr const char* kExpected = "the library of ONNX Runtime 1.23 or later";
constexpr const char* kFix = "set topos_runtime_options.ort_library to its full path";

using GetBase = const OrtApiBase*(ORT_API_CALL*)();

#ifdef _WIN32
constexpr char kSlash = '\\';
constexpr const char* kNames[] = {"onnxruntime.dll"};
#elif defined(__APPLE__)
constexpr char kSlash = '/';
constexpr const char* kNames[] = {"libonnxruntime.dylib"};
#else
constexpr char kSlash = '/';
constexpr const char* kNames[] = {"libonnxruntime.so", "libonnxruntime.so.1"};
#endif

[[noreturn]] void none(const std::string& path, const std::string& reason) {
  fail(TOPOS_E_UNAVAILABLE, "ONNX Runtime at " + path, reason, kExpected, kFix);
}

// The library is never unloaded: it keeps threads and one environment for the whole process.
GetBase found_in(const std::string& path) {
#ifdef _WIN32
  const HMODULE library = LoadLibraryExW(wide(path.c_str()).c_str(), nullptr, LOAD_WITH_ALTERED_SEARCH_PATH);
  if (library == nullptr) none(path, "system error " + std::to_string(GetLastError()));
  const auto symbol = reinterpret_cast<GetBase>(reinterpret_cast<void*>(GetProcAddress(library, "OrtGetApiBase")));
#else
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    none(path, reason == nullptr ? "no library" : reason);
  }
  GetBase symbol = nullptr;
  void* address = dlsym(library, "OrtGetApiBase");
  static_assert(sizeof address == sizeof symbol);
  std::memcpy(&symbol, &address, sizeof symbol);
#endif
  if (symbol == nullptr) none(path, "a library without OrtGetApiBase");
  return symbol;
}

std::string own_directory() {
  std::string path;
#ifdef _WIN32
  HMODULE module = nullptr;
  wchar_t text[MAX_PATH * 4] = {};
  GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                     reinterpret_cast<const wchar_t*>(reinterpret_cast<const void*>(&own_directory)), &module);
  GetModuleFileNameW(module, text, static_cast<DWORD>(std::size(text)));
  char bytes[MAX_PATH * 12] = {};
  WideCharToMultiByte(CP_UTF8, 0, text, -1, bytes, static_cast<int>(sizeof bytes), nullptr, nullptr);
  path = bytes;
#else
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&own_directory), &info) != 0 && info.dli_fname != nullptr) {
    path = info.dli_fname;
  }
#endif
  const size_t end = path.find_last_of(kSlash);
  return end == std::string::npos ? std::string(".") : path.substr(0, end);
}

bool exists(const std::string& path) {
#ifdef _WIN32
  return GetFileAttributesW(wide(path.c_str()).c_str()) != INVALID_FILE_ATTRIBUTES;
#else
  if (FILE* file = std::fopen(path.c_str(), "rb")) {
    std::fclose(file);
    return true;
  }
  return false;
#endif
}

std::string beside() {
  const std::string directory = own_directory();
  for (const char* name : kNames) {
    const std::string path = directory + kSlash + name;
    if (exists(path)) return path;
  }
  none(directory + kSlash + kNames[0], "no such file");
}

}  // namespace

Ort::Ort(const void* base, const char* path) {
  const OrtApiBase* found = static_cast<const OrtApiBase*>(base);
  if (found == nullptr) {
    path_ = path == nullptr ? beside() : path;
    // A bare name would be looked for in the system's directories.
    if (path_.find_first_of("/\\") == std::string::npos) none(path_, "a name without a directory");
    found = found_in(path_)();
  }
  version_ = found->GetVersionString();
  unsigned long minor = 0;
  if (version_.compare(0, 2, "1.") == 0) minor = std::strtoul(version_.c_str() + 2, nullptr, 10);
  if (minor < kOldest) {
    fail(TOPOS_E_UNAVAILABLE, "ONNX Runtime", "version " + version_, kExpected, "use a later one");
  }
  number_ = std::min<uint32_t>(static_cast<uint32_t>(minor), ORT_API_VERSION);
  api_ = found->GetApi(number_);
  if (api_ == nullptr) {
    fail(TOPOS_E_UNAVAILABLE, "ONNX Runtime " + version_, "no API " + std::to_string(number_), kExpected, kFix);
  }
  check(api_->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "topos_rt", &env_), "the environment of ONNX Runtime");
  OrtStatus* status = api_->DisableTelemetryEvents(env_);
  if (status == nullptr) status = api_->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory_);
  if (status != nullptr) {
    api_->ReleaseEnv(env_);
    check(status, "the environment of ONNX Runtime");
  }
}

Ort::~Ort() {
  api_->ReleaseMemoryInfo(memory_);
  api_->ReleaseEnv(env_);
}

void Ort::check(OrtStatus* status, const char* what) const {
  if (status == nullptr) return;
  const std::string message = api_->GetErrorMessage(status);
  api_->ReleaseStatus(status);
  fail(TOPOS_E_BACKEND, std::string("onnxruntime failed in ") + what, message);
}

}  // namespace topos
