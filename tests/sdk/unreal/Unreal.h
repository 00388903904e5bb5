// As much of Unreal's API as the plugin uses, written by hand after its documentation, to compile and run the
// plugin without Unreal. Meshes keep what they are given; what would be drawn or reflected does nothing.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

using int32 = std::int32_t;
using uint32 = std::uint32_t;
using uint64 = unsigned long long;  // as in Unreal: not the uint64_t of Linux
using uint8 = std::uint8_t;
using TCHAR = char16_t;
using ANSICHAR = char;

#define TEXT(x) u##x
#ifndef PLATFORM_WINDOWS
#define PLATFORM_WINDOWS 0
#endif
#define INDEX_NONE (-1)
#define TOPOSRT_API
#define UCLASS(...)
#define UPROPERTY(...)
#define UFUNCTION(...)
#define GENERATED_BODY()
#define UE_LOG(...)
#define IMPLEMENT_MODULE(type, name) IModuleInterface* MakeModule() { return new type; }

inline std::u16string Wide(const std::string& text) {
  std::u16string made;
  for (size_t at = 0; at < text.size();) {
    const auto lead = static_cast<unsigned char>(text[at++]);
    uint32 code = lead < 0x80 ? lead : lead < 0xE0 ? lead & 0x1FU : lead & 0x0FU;
    int more = lead < 0x80 ? 0 : lead < 0xE0 ? 1 : 2;
    while (more-- > 0) code = code << 6 | (text[at++] & 0x3FU);
    made += static_cast<char16_t>(code);
  }
  return made;
}

inline std::string Narrow(const std::u16string& text) {
  std::string made;
  for (const char16_t code : text) {
    if (code < 0x80) {
      made += static_cast<char>(code);
    } else if (code < 0x800) {
      made += {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
    } else {
      made += {static_cast<char>(0xE0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3F)),
               static_cast<char>(0x80 | (code & 0x3F))};
    }
  }
  return made;
}

#define UTF8_TO_TCHAR(text) (Wide(text).c_str())

class FString {
 public:
  FString() = default;
  FString(const TCHAR* text) : text_(text) {}
  const TCHAR* operator*() const { return text_.c_str(); }
  bool IsEmpty() const { return text_.empty(); }
  friend FString operator+(const FString& a, const TCHAR* b) { return FString((a.text_ + b).c_str()); }

 private:
  std::u16string text_;
};

class FTCHARToUTF8 {
 public:
  explicit FTCHARToUTF8(const TCHAR* text) : text_(Narrow(text)) {}
  const ANSICHAR* Get() const { return text_.c_str(); }

 private:
  std::string text_;
};

class FName {
 public:
  FName() = default;
  FName(const TCHAR* text) : text_(text) {}
  bool operator==(const FName& other) const { return text_ == other.text_; }
  bool operator<(const FName& other) const { return text_ < other.text_; }
  std::string Plain() const { return Narrow(text_); }

 private:
  std::u16string text_;
};

template <class T>
class TArray {
 public:
  int32 Num() const { return static_cast<int32>(values_.size()); }
  T* GetData() { return values_.data(); }
  const T* GetData() const { return values_.data(); }
  T& operator[](int32 at) { return values_.at(static_cast<size_t>(at)); }
  const T& operator[](int32 at) const { return values_.at(static_cast<size_t>(at)); }
  void SetNumUninitialized(int32 count) { values_.resize(static_cast<size_t>(count)); }
  void SetNumZeroed(int32 count) { values_.resize(static_cast<size_t>(count)); }
  void Reset() { values_.clear(); }
  int32 Add(const T& value) { return values_.push_back(value), Num() - 1; }
  int32 Add(T&& value) { return values_.push_back(std::move(value)), Num() - 1; }
  void Append(const T* from, int32 count) { values_.insert(values_.end(), from, from + count); }
  template <class Predicate>
  int32 IndexOfByPredicate(Predicate predicate) const {
    const auto found = std::find_if(values_.begin(), values_.end(), predicate);
    return found == values_.end() ? INDEX_NONE : static_cast<int32>(found - values_.begin());
  }
  auto begin() { return values_.begin(); }
  auto end() { return values_.end(); }
  auto begin() const { return values_.begin(); }
  auto end() const { return values_.end(); }

 private:
  std::vector<T> values_;
};

template <class K, class V>
struct TPair {
  K Key;
  V Value;
};

template <class K, class V>
class TMap {
 public:
  void Add(K key, V value) { pairs_.push_back({key, value}); }
  auto begin() const { return pairs_.begin(); }
  auto end() const { return pairs_.end(); }

 private:
  std::vector<TPair<K, V>> pairs_;
};

template <class T>
std::remove_reference_t<T>&& MoveTemp(T&& value) {
  return static_cast<std::remove_reference_t<T>&&>(value);
}

struct FVector3f {
  float X = 0, Y = 0, Z = 0;
  FVector3f() = default;
  FVector3f(float x, float y, float z) : X(x), Y(y), Z(z) {}
};

struct FVector {
  double X = 0, Y = 0, Z = 0;
  FVector() = default;
  FVector(double x, double y, double z) : X(x), Y(y), Z(z) {}
  explicit FVector(const FVector3f& from) : X(from.X), Y(from.Y), Z(from.Z) {}
  FVector operator*(double by) const { return {X * by, Y * by, Z * by}; }
  void operator+=(const FVector& by) { X += by.X, Y += by.Y, Z += by.Z; }
  bool Normalize() {
    const double length = std::sqrt(X * X + Y * Y + Z * Z);
    if (length < 1e-8) return false;
    X /= length, Y /= length, Z /= length;
    return true;
  }
};

struct FVector2D {
  double X = 0, Y = 0;
  FVector2D() = default;
  FVector2D(double x, double y) : X(x), Y(y) {}
};

struct FColor {};
struct FProcMeshTangent {};

template <class T, class D>
class TUniquePtr {
 public:
  TUniquePtr() = default;
  explicit TUniquePtr(T* pointer) : own_(pointer) {}
  T* Get() const { return own_.get(); }
  bool IsValid() const { return own_ != nullptr; }
  void Reset() { own_.reset(); }

 private:
  std::unique_ptr<T, D> own_;
};

enum class ESPMode { NotThreadSafe, ThreadSafe };

template <class T, ESPMode Mode>
class TSharedPtr {
 public:
  TSharedPtr() = default;
  template <class D>
  TSharedPtr(T* pointer, D release) : own_(pointer, release) {}
  T* Get() const { return own_.get(); }
  bool IsValid() const { return own_ != nullptr; }
  void Reset() { own_.reset(); }
  bool operator!=(const TSharedPtr& other) const { return own_ != other.own_; }

 private:
  std::shared_ptr<T> own_;
};

class UObject {
 public:
  virtual ~UObject() = default;
  virtual void BeginDestroy() { bDestroyed = true; }
  bool bDestroyed = false;
};

template <class T>
class TWeakObjectPtr {
 public:
  void operator=(T* object) { object_ = object; }
  bool IsValid() const { return object_ != nullptr && !object_->bDestroyed; }
  T* Get() const { return IsValid() ? object_ : nullptr; }
  T* operator->() const { return object_; }

 private:
  T* object_ = nullptr;
};

template <class T>
T* NewObject() {
  return new T;
}

// Copies what it is given, as Unreal does, and counts; a test asks.
class UProceduralMeshComponent : public UObject {
 public:
  void CreateMeshSection(int32 section, const TArray<FVector>& vertices, const TArray<int32>& triangles,
                         const TArray<FVector>& normals, const TArray<FVector2D>& uv0,
                         const TArray<FColor>& colours, const TArray<FProcMeshTangent>& tangents,
                         bool collision) {
    (void)colours, (void)tangents;
    Kept = {vertices, normals, uv0, triangles};
    Bad = Bad || section != 0 || collision || normals.Num() != vertices.Num() || uv0.Num() != vertices.Num();
    ++Created;
  }
  void UpdateMeshSection(int32 section, const TArray<FVector>& vertices, const TArray<FVector>& normals,
                         const TArray<FVector2D>& uv0, const TArray<FColor>& colours,
                         const TArray<FProcMeshTangent>& tangents) {
    (void)colours, (void)tangents;
    Bad = Bad || section != 0 || vertices.Num() != Kept.Vertices.Num() || normals.Num() != vertices.Num() ||
          uv0.Num() != vertices.Num();
    Kept.Vertices = vertices, Kept.Normals = normals;
    ++Updated;
  }

  struct FKept {
    TArray<FVector> Vertices, Normals;
    TArray<FVector2D> UVs;
    TArray<int32> Triangles;
  } Kept;
  int Created = 0, Updated = 0;
  bool Bad = false;
};

class UBlueprintAsyncActionBase : public UObject {
 public:
  using Super = UBlueprintAsyncActionBase;  // GENERATED_BODY() has it in Unreal
  virtual void Activate() {}
  void RegisterWithGameInstance(UObject* context) { bRegistered = context != nullptr; }
  void SetReadyToDestroy() { bReady = true; }
  bool bRegistered = false, bReady = false;
};

template <class... Values>
class TEvent {
 public:
  void Broadcast(Values... values) const {
    if (Called) Called(values...);
  }
  std::function<void(Values...)> Called;
};
#define DECLARE_DYNAMIC_MULTICAST_DELEGATE_TwoParams(name, type1, name1, type2, name2) \
  using name = TEvent<type1, type2>

class FTickerDelegate {
 public:
  template <class T>
  static FTickerDelegate CreateUObject(T* object, bool (T::*method)(float)) {
    FTickerDelegate made;
    made.Call = [=](float seconds) { return (object->*method)(seconds); };
    return made;
  }
  std::function<bool(float)> Call;
};

class FTSTicker {
 public:
  class FDelegateHandle {
   public:
    bool IsValid() const { return Number != 0; }
    void Reset() { Number = 0; }
    int Number = 0;
  };
  static FTSTicker& GetCoreTicker() {
    static FTSTicker ticker;
    return ticker;
  }
  FDelegateHandle AddTicker(const FTickerDelegate& delegate) {
    FDelegateHandle handle;
    handle.Number = ++last_;
    all_[handle.Number] = delegate;
    return handle;
  }
  void RemoveTicker(FDelegateHandle handle) { all_.erase(handle.Number); }
  void Tick(float seconds) {  // a frame
    const auto now = all_;
    for (const auto& [number, delegate] : now) {
      if (!delegate.Call(seconds)) all_.erase(number);
    }
  }
  size_t Count() const { return all_.size(); }

 private:
  std::map<int, FTickerDelegate> all_;
  int last_ = 0;
};

template <class T>
class TFuture {
 public:
  TFuture() = default;
  explicit TFuture(std::shared_future<T> made) : made_(std::move(made)) {}
  bool IsReady() const {
    return made_.valid() && made_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }
  const T& Get() const { return made_.get(); }

 private:
  std::shared_future<T> made_;
};

enum class EAsyncExecution { TaskGraph, Thread };

template <class C>
auto Async(EAsyncExecution, C&& callable) -> TFuture<decltype(callable())> {
  return TFuture<decltype(callable())>(std::async(std::launch::async, std::forward<C>(callable)).share());
}

namespace ERawImageFormat {
enum Type { BGRA8 };
}
enum class EGammaSpace { sRGB };

struct FImage {
  int32 SizeX = 0, SizeY = 0;
  TArray<uint8> RawData;
  void ChangeFormat(ERawImageFormat::Type, EGammaSpace) {}
};

struct FImageUtils {
  static bool LoadImage(const TCHAR* path, FImage& out) {  // a PPM here, of three words and pixels
    std::ifstream file(Narrow(path), std::ios::binary);
    std::string kind;
    int most = 0;
    if (!(file >> kind >> out.SizeX >> out.SizeY >> most) || kind != "P6" || most != 255) return false;
    file.get();
    out.RawData.SetNumUninitialized(4 * out.SizeX * out.SizeY);
    for (int32 at = 0; at < out.SizeX * out.SizeY; ++at) {
      for (const int32 to : {2, 1, 0}) out.RawData[4 * at + to] = static_cast<uint8>(file.get());
      out.RawData[4 * at + 3] = 255;
    }
    return static_cast<bool>(file);
  }
};

class IModuleInterface {
 public:
  virtual ~IModuleInterface() = default;
  virtual void StartupModule() {}
  virtual void ShutdownModule() {}
};

struct FPlatformProcess {
  static void* GetDllHandle(const TCHAR*) { return nullptr; }
  static void FreeDllHandle(void*) {}
};

struct FPaths {
  template <class A, class B>
  static FString Combine(const A& a, const B& b) {
    return FString(*FString(*a)) + TEXT("/") + b;
  }
};

struct IPlugin {
  FString GetBaseDir() const { return TEXT("plugins"); }
};

struct IPluginManager {
  static IPluginManager& Get() {
    static IPluginManager manager;
    return manager;
  }
  std::shared_ptr<IPlugin> FindPlugin(const FString&) { return std::make_shared<IPlugin>(); }
};
