#include "glb.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "glb_buffer.h"
#include "glb_materials.h"
#include "normals.h"

namespace topos {
namespace {

constexpr const char* kSurfaces[] = {"skin", "eyes", "mouth"};
constexpr size_t kMostByteJoints = 0x100;
constexpr uint8_t kOpaque = 255;

// A primitive of a mesh: the accessors of its attributes in their order, and what else it has.
struct Primitive {
  std::vector<std::pair<const char*, int>> attributes;
  int indices;
  std::string_view material;
  std::string targets;
};

template <class T>
std::vector<T> gathered(const T* rows, size_t width, const std::vector<int32_t>& source) {
  std::vector<T> made;
  made.reserve(width * source.size());
  for (const int32_t id : source) {
    const T* row = rows + width * static_cast<size_t>(id);
    made.insert(made.end(), row, row + width);
  }
  return made;
}

std::vector<int32_t> counting(size_t count) {
  std::vector<int32_t> made;
  for (size_t i = 0; i < count; ++i) made.push_back(static_cast<int32_t>(i));
  return made;
}

// glTF counts v from the top of the image.
std::vector<float> downwards(const float* uvs, size_t count) {
  std::vector<float> made(uvs, uvs + 2 * count);
  for (size_t i = 1; i < made.size(); i += 2) made[i] = 1 - made[i];
  return made;
}

// Shades as opaque linear colours.
std::vector<uint8_t> greys(const std::vector<uint8_t>& shades) {
  std::vector<uint8_t> made;
  for (const uint8_t shade : shades) made.insert(made.end(), {shade, shade, shade, kOpaque});
  return made;
}

class Writer {
 public:
  explicit Writer(const GlbScene& scene) : scene_(scene), head_(scene.head) {}

  std::string file();

 private:
  void add_head();
  void add_part(const GlbPart& part);
  void add_rig(const GlbRig& rig, const std::vector<int32_t>& source, std::vector<Primitive>& primitives,
               const MorphNormals& normals);
  void add_shade();
  std::string asset() const;
  std::string nodes();
  std::string skin(int inverse_binds) const;
  std::string meshes(const std::vector<std::string_view>& used) const;
  std::vector<float> inverse_binds() const;
  std::vector<int64_t> roots() const;
  bool has_shapes() const { return scene_.has_rig && !scene_.shape_names.empty(); }

  const GlbScene& scene_;
  const GlbHead& head_;
  GlbBuffer out_;
  std::vector<Primitive> primitives_;
  int inverse_binds_ = 0;
};

std::string Writer::file() {
  add_head();
  GlbMaterials materials(scene_, out_);
  const std::vector<int32_t> source(head_.source, head_.source + head_.copies);
  if (scene_.has_rig) {
    add_rig(head_.rig, source, primitives_, {head_.positions, head_.vertices, head_.corners, head_.triangles});
  }
  if (scene_.has_parts) {
    for (const GlbPart& part : scene_.parts) add_part(part);
    add_shade();
  }
  std::vector<std::string_view> used;
  for (const Primitive& primitive : primitives_) {
    if (std::find(used.begin(), used.end(), primitive.material) == used.end()) used.push_back(primitive.material);
  }
  Json made;
  made.open('{').raw("asset", asset()).whole("scene", 0).key("scenes").open('[').open('{').key("nodes").open('[');
  made.whole(0);
  if (scene_.has_rig) {
    const std::vector<int64_t> found = roots();
    if (found.size() == 1) made.whole(found.front());
    if (found.size() > 1) made.whole(static_cast<int64_t>(scene_.skeleton.names.size()) + 1);
  }
  made.close(']').close('}').close(']').raw("nodes", nodes()).raw("meshes", meshes(used));
  made.raw("materials", materials.list(used));
  if (!materials.tables().empty()) made.raw_members(materials.tables());
  if (scene_.has_rig) made.raw("skins", skin(inverse_binds_));
  made.key("buffers").open('[').open('{').whole("byteLength", static_cast<int64_t>(out_.data().size()));
  made.close('}').close(']').raw("bufferViews", out_.views()).raw("accessors", out_.accessors()).close('}');

  std::string json = made.str();
  json.append((4 - json.size() % 4) % 4, ' ');
  const size_t data = out_.data().size();  // views end at multiples of four bytes
  const uint32_t words[] = {2, static_cast<uint32_t>(12 + 8 + json.size() + 8 + data)};
  const uint32_t json_size = static_cast<uint32_t>(json.size()), data_size = static_cast<uint32_t>(data);
  std::string bytes = "glTF";
  bytes.reserve(words[1]);
  const auto number = [&bytes](uint32_t value) {
    for (unsigned shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(value >> shift & 0xFFU);
  };
  number(words[0]);
  number(words[1]);
  number(json_size);
  bytes += "JSON" + json;
  number(data_size);
  bytes.append("BIN\0", 4);
  return bytes += out_.data();
}

void Writer::add_head() {
  const std::vector<int32_t> source(head_.source, head_.source + head_.copies);
  const std::vector<float> positions = gathered(head_.positions, 3, source);
  const std::vector<float> normals = gathered(head_.normals, 3, source);
  Primitive first = {{{"POSITION", out_.floats(positions, 3, true)}, {"NORMAL", out_.floats(normals, 3)}}, 0, "", ""};
  if (head_.uvs != nullptr) {
    const std::vector<float> uvs = downwards(head_.uvs, head_.copies);
    first.attributes.emplace_back("TEXCOORD_0", out_.floats(uvs, 2));
    if (!scene_.texture.empty()) {
      std::vector<float> found(4 * head_.copies);
      tangents(positions.data(), normals.data(), uvs.data(), head_.copies, head_.copy_corners, head_.triangles,
               found.data());
      first.attributes.emplace_back("TANGENT", out_.floats(found, 4));
    }
  }
  for (uint8_t surface = 0; surface < std::size(kSurfaces); ++surface) {
    std::vector<int32_t> corners;
    for (size_t i = 0; i < head_.triangles; ++i) {
      if ((head_.surfaces == nullptr ? 0 : head_.surfaces[i]) != surface) continue;
      corners.insert(corners.end(), head_.copy_corners + 3 * i, head_.copy_corners + 3 * i + 3);
    }
    if (corners.empty()) continue;
    primitives_.push_back(first);
    primitives_.back().indices = out_.indices(corners, head_.copies);
    primitives_.back().material = kSurfaces[surface];
  }
}

// Adds the skin and the morph targets of some primitives, which share the vertices `source`.
void Writer::add_rig(const GlbRig& rig, const std::vector<int32_t>& source, std::vector<Primitive>& primitives,
                     const MorphNormals& normals) {
  const bool of_head = &rig == &head_.rig;
  std::vector<float> weights;
  std::vector<uint16_t> joints;
  for (const int32_t id : source) {
    const float* row = rig.weights + 4 * static_cast<size_t>(id);
    const float sum = ((row[0] + row[1]) + row[2]) + row[3];
    for (size_t k = 0; k < 4; ++k) {
      weights.push_back(row[k] / sum);
      // Joints without weight must be 0.
      joints.push_back(weights.back() > 0 ? rig.joints[4 * static_cast<size_t>(id) + k] : uint16_t{0});
    }
  }
  const int joints_at = out_.joints(joints, scene_.skeleton.names.size() <= kMostByteJoints);
  const int weights_at = out_.floats(weights, 4);
  if (of_head) inverse_binds_ = out_.matrices(inverse_binds());
  const std::string targets = has_shapes() ? out_.targets(rig.shapes, normals, source) : "";
  for (Primitive& primitive : primitives) {
    primitive.attributes.emplace_back("JOINTS_0", joints_at);
    primitive.attributes.emplace_back("WEIGHTS_0", weights_at);
    primitive.targets = targets;
  }
}

void Writer::add_part(const GlbPart& part) {
  const std::vector<int32_t> all = counting(part.vertices);
  Primitive made = {{}, 0, part.material, ""};
  made.attributes.emplace_back("POSITION", out_.floats(gathered(part.positions, 3, all), 3, true));
  made.attributes.emplace_back("NORMAL", out_.floats(gathered(part.normals, 3, all), 3));
  made.attributes.emplace_back("TEXCOORD_0", out_.floats(downwards(part.uvs, part.vertices), 2));
  if (part.shade != nullptr) {
    const std::vector<uint8_t> shade(part.shade, part.shade + part.vertices);
    made.attributes.emplace_back("COLOR_0", out_.bytes(greys(shade), true));
  }
  made.indices = out_.indices(std::vector<int32_t>(part.corners, part.corners + 3 * part.triangles), part.vertices);
  std::vector<Primitive> one = {made};
  if (scene_.has_rig) add_rig(part.rig, all, one, {part.positions, part.vertices, part.corners, part.triangles});
  primitives_.push_back(one.front());
}

// Colours that darken the inside of the mouth and, on eyes without a picture, draw irises.
void Writer::add_shade() {
  if (head_.shade == nullptr) return;
  int colours = -1;
  for (Primitive& primitive : primitives_) {
    const bool eyes = primitive.material == "eyes" && scene_.texture.empty();
    if (primitive.material != "mouth" && !eyes) continue;
    if (colours < 0) {
      const std::vector<int32_t> source(head_.source, head_.source + head_.copies);
      colours = out_.bytes(greys(gathered(head_.shade, 1, source)), true);
    }
    primitive.attributes.emplace_back("COLOR_0", colours);
  }
}

std::string Writer::asset() const {
  Json made;
  made.open('{').text("version", "2.0").text("generator", "topos_rt").key("extras").open('{');
  made.whole("topologyVertices", static_cast<int64_t>(head_.vertices));
  made.text("vertexOrder", "the topology's vertices come first, then one copy per entry of seamCopyOf");
  made.key("seamCopyOf").open('[');
  for (size_t i = head_.vertices; i < head_.copies; ++i) made.whole(head_.source[i]);
  return made.close(']').raw("metadata", scene_.metadata).close('}').close('}').str();
}

std::vector<int64_t> Writer::roots() const {
  std::vector<int64_t> found;
  for (size_t joint = 0; joint < scene_.skeleton.names.size(); ++joint) {
    if (scene_.skeleton.parents[joint] < 0) found.push_back(static_cast<int64_t>(joint) + 1);
  }
  return found;
}

// The mesh comes first, then the joints; several roots hang on a node of their own.
std::string Writer::nodes() {
  Json made;
  made.open('[').open('{').text("name", "head_mesh").whole("mesh", 0);
  if (scene_.has_rig) made.whole("skin", 0);
  made.close('}');
  if (!scene_.has_rig) return made.close(']').str();
  const GlbSkeleton& skeleton = scene_.skeleton;
  const auto list = [&made](const char* name, const std::vector<int64_t>& values) {
    made.key(name).open('[');
    for (const int64_t value : values) made.whole(value);
    made.close(']');
  };
  for (size_t joint = 0; joint < skeleton.names.size(); ++joint) {
    const int32_t parent = skeleton.parents[joint];
    std::vector<int64_t> children;
    for (size_t child = 0; child < skeleton.names.size(); ++child) {
      if (skeleton.parents[child] == static_cast<int32_t>(joint)) children.push_back(static_cast<int64_t>(child) + 1);
    }
    made.open('{').text("name", skeleton.names[joint]).key("translation").open('[');
    for (size_t k = 0; k < 3; ++k) {
      const float start = parent < 0 ? 0.0F : skeleton.positions[3 * static_cast<size_t>(parent) + k];
      made.real(static_cast<double>(skeleton.positions[3 * joint + k] - start));
    }
    made.close(']');
    if (!skeleton.roles[joint].empty()) {
      made.key("extras").open('{').text("humanoid", skeleton.roles[joint]).close('}');
    }
    if (!children.empty()) list("children", children);
    made.close('}');
  }
  if (const std::vector<int64_t> found = roots(); found.size() > 1) {
    made.open('{').text("name", "skeleton");
    list("children", found);
    made.close('}');
  }
  return made.close(']').str();
}

std::string Writer::skin(int inverse_binds) const {
  const std::vector<int64_t> found = roots();
  const auto count = static_cast<int64_t>(scene_.skeleton.names.size());
  Json made;
  made.open('[').open('{').text("name", "head");
  made.whole("skeleton", found.size() > 1 ? count + 1 : found.front());
  made.key("joints").open('[');
  for (int64_t joint = 1; joint <= count; ++joint) made.whole(joint);
  return made.close(']').whole("inverseBindMatrices", inverse_binds).close('}').close(']').str();
}

// Column-major: each moves its joint to the origin.
std::vector<float> Writer::inverse_binds() const {
  std::vector<float> made;
  for (size_t joint = 0; joint < scene_.skeleton.names.size(); ++joint) {
    const float* at = scene_.skeleton.positions + 3 * joint;
    const float matrix[] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0 - at[0], 0 - at[1], 0 - at[2], 1};
    made.insert(made.end(), std::begin(matrix), std::end(matrix));
  }
  return made;
}

std::string Writer::meshes(const std::vector<std::string_view>& used) const {
  Json made;
  made.open('[').open('{').text("name", "head").key("primitives").open('[');
  for (const Primitive& primitive : primitives_) {
    made.open('{').key("attributes").open('{');
    for (const auto& [name, at] : primitive.attributes) {
      // Tangents are for pictures of normals alone, which the skin has.
      if (std::strcmp(name, "TANGENT") != 0 || primitive.material == kSurfaces[0]) made.whole(name, at);
    }
    const auto number = std::find(used.begin(), used.end(), primitive.material) - used.begin();
    made.close('}').whole("indices", primitive.indices).whole("material", number);
    if (!primitive.targets.empty()) made.raw("targets", primitive.targets);
    made.close('}');
  }
  made.close(']');
  if (has_shapes()) {
    made.key("weights").open('[');
    for (size_t i = 0; i < scene_.shape_names.size(); ++i) made.real(0);
    made.close(']').key("extras").open('{').key("targetNames").open('[');
    for (const std::string_view name : scene_.shape_names) made.text(name);
    made.close(']').close('}');
  }
  return made.close('}').close(']').str();
}

}  // namespace

std::string glb_of(const GlbScene& scene) { return Writer(scene).file(); }

}  // namespace topos
