// As much of godot-cpp as the extension uses, written by hand after its documentation, to compile and run the
// extension without Godot. Meshes keep what they are given; what would be drawn or registered does nothing.
#pragma once

#include <any>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#define GDE_EXPORT
#define GDCLASS(name, base) friend class ::godot::ClassDB;
#define D_METHOD(...) ::godot::MethodName{{__VA_ARGS__}}
#define DEFVAL(value) ::godot::Variant(value)
#define ADD_SIGNAL(signal) ::godot::ClassDB::add_signal(signal)
#define GDREGISTER_CLASS(name) ::godot::ClassDB::register_class<name>()

using GDExtensionBool = uint8_t;
using GDExtensionClassLibraryPtr = void*;
using GDExtensionInterfaceGetProcAddress = void (*)();
struct GDExtensionInitialization {};

namespace godot {

class CharString {
 public:
  explicit CharString(std::string text) : text_(std::move(text)) {}
  const char* get_data() const { return text_.c_str(); }

 private:
  std::string text_;
};

class String {
 public:
  String() = default;
  String(const char* text) : text_(text) {}
  static String utf8(const char* text, int64_t = -1) { return text; }
  CharString utf8() const { return CharString(text_); }
  bool is_empty() const { return text_.empty(); }
  String operator+(const String& other) const { return (text_ + other.text_).c_str(); }

 private:
  std::string text_;
};

class StringName {
 public:
  StringName(const char* text) : Text(text) {}
  StringName(const String& text) : Text(text.utf8().get_data()) {}
  std::string Text;
};

struct Vector2 {
  float x = 0, y = 0;
};

struct Vector3 {
  float x = 0, y = 0, z = 0;
  Vector3 operator+(const Vector3& b) const { return {x + b.x, y + b.y, z + b.z}; }
  void operator+=(const Vector3& b) { *this = *this + b; }
  Vector3 normalized() const {
    const float length = std::sqrt(x * x + y * y + z * z);
    return length == 0 ? Vector3() : Vector3{x / length, y / length, z / length};
  }
};

template <class T>
class Packed {
 public:
  int64_t size() const { return static_cast<int64_t>(values_.size()); }
  int64_t resize(int64_t count) { return values_.resize(static_cast<size_t>(count)), 0; }
  const T* ptr() const { return values_.data(); }
  T* ptrw() { return values_.data(); }
  const T& operator[](int64_t at) const { return values_.at(static_cast<size_t>(at)); }
  T& operator[](int64_t at) { return values_.at(static_cast<size_t>(at)); }

 private:
  std::vector<T> values_;
};
using PackedByteArray = Packed<uint8_t>;
using PackedInt32Array = Packed<int32_t>;
using PackedVector2Array = Packed<Vector2>;
using PackedVector3Array = Packed<Vector3>;

class Variant {
 public:
  enum Type { NIL, INT = 2, STRING = 4 };
  Variant() = default;
  template <class T, class = std::enable_if_t<!std::is_same_v<std::decay_t<T>, Variant>>>
  Variant(const T& value) : Value(value) {}
  std::any Value;
};

class Array {  // shared, as Godot's are
 public:
  int64_t size() const { return static_cast<int64_t>(values_->size()); }
  int64_t resize(int64_t count) { return values_->resize(static_cast<size_t>(count)), 0; }
  void push_back(const Variant& value) { values_->push_back(value); }
  Variant& operator[](int64_t at) { return values_->at(static_cast<size_t>(at)); }
  const Variant& operator[](int64_t at) const { return values_->at(static_cast<size_t>(at)); }

 private:
  std::shared_ptr<std::vector<Variant>> values_ = std::make_shared<std::vector<Variant>>();
};

template <class T>
class TypedArray : public Array {};

struct PropertyInfo {
  PropertyInfo(Variant::Type, const char* name) : name(name) {}
  String name;
};

struct MethodInfo {
  template <class... Arguments>
  MethodInfo(const char* name, const Arguments&...) : name(name) {}
  std::string name;
};

struct MethodName {
  std::vector<std::string> names;  // the method's, then its arguments'
};

class ClassDB {
 public:
  template <class Returns, class Class, class... Arguments, class... Defaults>
  static void bind_method(const MethodName& name, Returns (Class::*)(Arguments...), const Defaults&...) {
    Complete = Complete && name.names.size() == 1 + sizeof...(Arguments);
  }
  template <class Returns, class Class>
  static void bind_method(const MethodName& name, Returns (Class::*)() const) {
    Complete = Complete && name.names.size() == 1;
  }
  static void add_signal(const MethodInfo& signal) { Signals.push_back(signal.name); }
  template <class Class>
  static void register_class() {
    Class::_bind_methods();
  }
  static inline bool Complete = true;  // whether all arguments have names
  static inline std::vector<std::string> Signals;
};

template <class T>
class Ref {
 public:
  Ref() = default;
  template <class Other>
  Ref(const Ref<Other>& from) : Own(std::dynamic_pointer_cast<T>(from.Own)) {}
  T* operator->() const { return Own.get(); }
  T* operator*() const { return Own.get(); }
  bool is_null() const { return Own == nullptr; }
  bool is_valid() const { return Own != nullptr; }
  void unref() { Own.reset(); }
  void instantiate() { Own = std::make_shared<T>(); }
  std::shared_ptr<T> Own;
};

class Object {
 public:
  virtual ~Object() = default;
  template <class... Arguments>
  void emit_signal(const StringName& signal, const Arguments&... arguments) {
    if (Emitted) Emitted(signal.Text, {Variant(arguments)...});
  }
  std::function<void(const std::string&, const std::vector<Variant>&)> Emitted;
};

class Resource : public Object {
 public:
  Ref<Resource> duplicate(bool = false) const {
    Ref<Resource> made;
    made.Own = Copy();
    return made;
  }
  virtual std::shared_ptr<Resource> Copy() const = 0;
};

class Image : public Resource {
 public:
  enum Format { FORMAT_RGB8 = 4, FORMAT_RGBA8 = 5 };
  std::shared_ptr<Resource> Copy() const override { return std::make_shared<Image>(*this); }
  bool is_empty() const { return Width == 0; }
  bool is_compressed() const { return false; }
  int decompress() { return 0; }
  void clear_mipmaps() {}
  void convert(Format format) {  // from RGB alone
    if (format != FORMAT_RGBA8) return;
    PackedByteArray made;
    made.resize(int64_t{4} * Width * Height);
    for (int64_t at = 0; at < int64_t{Width} * Height; ++at) {
      for (int64_t k = 0; k < 3; ++k) made[4 * at + k] = Pixels[3 * at + k];
      made[4 * at + 3] = 255;
    }
    Pixels = made;
  }
  PackedByteArray get_data() const { return Pixels; }
  int32_t get_width() const { return Width; }
  int32_t get_height() const { return Height; }
  int32_t Width = 0, Height = 0;
  PackedByteArray Pixels;
};

class Mesh : public Resource {
 public:
  enum ArrayType { ARRAY_VERTEX, ARRAY_NORMAL, ARRAY_TANGENT, ARRAY_TEX_UV = 4, ARRAY_INDEX = 12, ARRAY_MAX };
  enum PrimitiveType { PRIMITIVE_TRIANGLES = 3 };
  enum BlendShapeMode { BLEND_SHAPE_MODE_NORMALIZED, BLEND_SHAPE_MODE_RELATIVE };
};

class ArrayMesh : public Mesh {
 public:
  std::shared_ptr<Resource> Copy() const override { return std::make_shared<ArrayMesh>(*this); }
  void clear_surfaces() { Surface = Array(), Shapes = Array(), Surfaces = 0; }
  void clear_blend_shapes() { Bad = Bad || Surfaces != 0, Names.clear(); }
  void add_blend_shape(const StringName& name) { Bad = Bad || Surfaces != 0, Names.push_back(name.Text); }
  void set_blend_shape_mode(BlendShapeMode mode) { Mode = mode; }
  // Refuses what Godot refuses: a surface has as many shapes as the mesh has names, all of one size.
  void add_surface_from_arrays(PrimitiveType, const Array& arrays, const TypedArray<Array>& shapes) {
    const auto size = std::any_cast<PackedVector3Array>(arrays[ARRAY_VERTEX].Value).size();
    Bad = Bad || arrays.size() != ARRAY_MAX || shapes.size() != static_cast<int64_t>(Names.size());
    for (int64_t at = 0; at < shapes.size(); ++at) {
      const auto shape = std::any_cast<Array>(shapes[at].Value);
      for (int64_t k = 0; k < ARRAY_MAX; ++k) {
        const bool wanted = k == ARRAY_VERTEX || k == ARRAY_NORMAL;
        Bad = Bad || shape[k].Value.has_value() != wanted;
        if (wanted) Bad = Bad || std::any_cast<PackedVector3Array>(shape[k].Value).size() != size;
      }
    }
    Surface = arrays, Shapes = shapes, ++Surfaces, ++Changes;
  }
  Array Surface, Shapes;
  std::vector<std::string> Names;
  BlendShapeMode Mode = BLEND_SHAPE_MODE_RELATIVE;
  int Surfaces = 0, Changes = 0;
  bool Bad = false;
};

class MeshInstance3D : public Object {
 public:
  virtual void _process(double) {}
  void set_mesh(const Ref<Mesh>& mesh) { mesh_ = mesh; }
  Ref<Mesh> get_mesh() const { return mesh_; }

 private:
  Ref<Mesh> mesh_;
};

class ProjectSettings {
 public:
  static ProjectSettings* get_singleton() {
    static ProjectSettings settings;
    return &settings;
  }
  String globalize_path(const String& path) const { return path; }
};

enum ModuleInitializationLevel { MODULE_INITIALIZATION_LEVEL_CORE, MODULE_INITIALIZATION_LEVEL_SCENE = 2 };

struct GDExtensionBinding {
  class InitObject {
   public:
    InitObject(GDExtensionInterfaceGetProcAddress, GDExtensionClassLibraryPtr, GDExtensionInitialization*) {}
    void register_initializer(void (*start)(ModuleInitializationLevel)) { start_ = start; }
    void register_terminator(void (*)(ModuleInitializationLevel)) {}
    void set_minimum_library_initialization_level(ModuleInitializationLevel) {}
    GDExtensionBool init() const {
      start_(MODULE_INITIALIZATION_LEVEL_CORE);
      start_(MODULE_INITIALIZATION_LEVEL_SCENE);
      return 1;
    }

   private:
    void (*start_)(ModuleInitializationLevel) = nullptr;
  };
};

}  // namespace godot
