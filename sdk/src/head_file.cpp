#include "head_file.h"

#include <algorithm>
#include <cstring>

#include "glb.h"
#include "json.h"
#include "picture_files.h"

namespace topos {
namespace {

template <class T>
std::vector<T> gathered(const T* from, size_t width, const std::vector<size_t>& rows) {
  std::vector<T> out;
  out.reserve(rows.size() * width);
  for (const size_t row : rows) out.insert(out.end(), from + row * width, from + (row + 1) * width);
  return out;
}

// A surface on some rows of another one, and the rig that goes with it.
struct Gathered {
  std::vector<float> positions, normals, weights;
  std::vector<uint16_t> joints;
  std::unique_ptr<ReducedShapes> shapes;

  GlbRig rig() const {
    if (shapes == nullptr) return {};
    return {joints.data(), weights.data(), shapes->view()};
  }
};

Gathered gathered_of(const float* positions, const float* normals, size_t count, const Shapes* shapes, const uint16_t* joints,
               const float* weights, const std::vector<size_t>& rows) {
  Gathered made;
  made.positions = gathered(positions, 3, rows);
  made.normals = gathered(normals, 3, rows);
  if (shapes == nullptr) return made;
  made.joints = gathered(joints, 4, rows);
  made.weights = gathered(weights, 4, rows);
  std::vector<int32_t> numbers(count, -1);
  for (size_t at = 0; at < rows.size(); ++at) numbers[rows[at]] = static_cast<int32_t>(at);
  made.shapes = std::make_unique<ReducedShapes>(*shapes, numbers);
  return made;
}

constexpr const char* kMaps[] = {"albedo", "orm", "normal"};

// The maps as files. Normals are never JPEG, whose blocks would show in the light.
std::vector<std::string> files_of(const Head::Dress& texture, bool lossy) {
  const auto file = [lossy](const HostVector<uint8_t>& pixels, int side) {
    return lossy ? jpeg_file(pixels.data(), side) : png_file(pixels.data(), side);
  };
  return {file(texture.albedo, texture.side), file(texture.orm, kAtlasSide),
          png_file(texture.relief.data(), texture.relief_side)};
}

const char* mime_of(const std::string& file) { return file.compare(1, 3, "PNG") == 0 ? "image/png" : "image/jpeg"; }

// The members of metadata that Python adds for a level of detail.
std::string at_level(const std::string& metadata, uint32_t lod) {
  if (lod == 0) return metadata;
  const std::string rest = metadata.substr(0, metadata.size() - 1);
  return rest + (rest.size() > 1 ? "," : "") + "\"lod\":" + std::to_string(lod) + "}";
}

}  // namespace

std::string glb_of_head(const Head& head, uint32_t lod, uint32_t flags) {
  const ModelData& data = head.model().data();
  const bool textured = head.texture && (flags & TOPOS_EXPORT_NO_TEXTURE) == 0;
  const MeshData& mesh = textured ? data.atlas_meshes[lod] : data.meshes[lod];
  GlbScene scene;
  scene.has_rig = head.has_rig() && (flags & TOPOS_EXPORT_NO_RIG) == 0;
  scene.has_parts = data.has_parts && (flags & TOPOS_EXPORT_NO_PARTS) == 0;
  const Shapes shapes = scene.has_rig ? head.shapes() : Shapes{};
  const Skin skin = scene.has_rig ? head.skin() : Skin{};

  std::vector<size_t> rows;
  for (size_t at = 0; at < mesh.vertices; ++at) rows.push_back(static_cast<size_t>(mesh.source[at]));
  std::vector<int32_t> numbers(data.vertices(), 0), source;
  for (size_t at = 0; at < rows.size(); ++at) numbers[rows[at]] = static_cast<int32_t>(at);
  for (size_t at = 0; at < mesh.source.rows; ++at) source.push_back(numbers[static_cast<size_t>(mesh.source[at])]);
  const Gathered own = gathered_of(head.positions(), head.normals(), data.vertices(), scene.has_rig ? &shapes : nullptr,
                             skin.joints, skin.weights, rows);
  scene.head.vertices = mesh.vertices;
  scene.head.copies = mesh.source.rows;
  scene.head.triangles = mesh.triangles.rows;
  scene.head.positions = own.positions.data();
  scene.head.normals = own.normals.data();
  scene.head.corners = mesh.corners.data();
  scene.head.source = source.data();
  scene.head.copy_corners = mesh.triangles.data;
  scene.head.uvs = mesh.uvs.rows > 0 ? mesh.uvs.data : nullptr;
  if (scene.has_parts && mesh.surfaces.rows > 0) {
    scene.head.surfaces = mesh.surfaces.data;
    scene.head.shade = mesh.shade.data;  // its first rows are the level's own vertices
  }
  scene.head.rig = own.rig();
  for (size_t joint = 0; scene.has_rig && joint < data.rig.joints; ++joint) {
    scene.skeleton.names.push_back(data.pack.string(Kind::kJointNames, joint));
    scene.skeleton.roles.push_back(data.pack.string(Kind::kJointHumanoid, joint));
  }
  scene.skeleton.parents = skin.parents;
  scene.skeleton.positions = skin.positions;
  for (size_t shape = 0; shape < shapes.count; ++shape) {
    scene.shape_names.push_back(data.pack.string(Kind::kShapeNames, shape));
  }

  std::vector<std::string> files;
  if (textured) {
    files = files_of(*head.texture, (flags & TOPOS_EXPORT_PNG) == 0 && encodes_jpeg());
    for (size_t at = 0; at < files.size(); ++at) scene.texture.push_back({kMaps[at], mime_of(files[at]), files[at]});
  }

  Parts parts;
  std::vector<PartSurface> surfaces;
  std::vector<Gathered> pieces;
  std::vector<std::vector<float>> uvs;
  std::vector<std::vector<uint8_t>> shades;
  if (scene.has_parts) {
    parts = parts_of(data.parts, head.positions(), data.vertices(), shapes, skin, data.part_joints);
    surfaces = part_surfaces(data.parts);
    const Shapes moved = parts.shapes();
    for (const PartSurface& surface : surfaces) {
      const std::vector<size_t> ids(surface.ids.begin(), surface.ids.end());
      pieces.push_back(gathered_of(parts.positions.data(), parts.normals.data(), data.parts.vertices,
                                scene.has_rig ? &moved : nullptr, parts.joints.data(), parts.weights.data(), ids));
      uvs.push_back(gathered(data.parts.uvs, 2, ids));
      shades.push_back(gathered(data.parts.shade, 1, ids));
    }
    for (size_t at = 0; at < surfaces.size(); ++at) {
      const Gathered& piece = pieces[at];
      scene.parts.push_back({surfaces[at].material, surfaces[at].ids.size(), surfaces[at].corners.size() / 3,
                             piece.positions.data(), piece.normals.data(), uvs[at].data(), surfaces[at].corners.data(),
                             surfaces[at].shaded ? shades[at].data() : nullptr, piece.rig()});
    }
    const Rows<uint8_t> picture = data.pack.file(Kind::kPartPicture);
    scene.part_picture = {reinterpret_cast<const char*>(picture.data), picture.rows};
  }
  const std::string metadata = at_level(head.metadata, lod);
  scene.metadata = metadata;
  return glb_of(scene);
}

std::string origin_of(const ModelData& data) {
  const bool random = std::strcmp(data.about[kWeightKind], "random") == 0;
  Json json;
  json.open('{').text("model", data.about[kName]);
  json.text("weights", random ? "random weights: the shape means nothing" : data.about[kOrigin]);
  json.text("backend", "onnxruntime");
  return json.str();
}

std::string about_sampling(const ModelData& data, const Settings& settings) {
  const SamplerSettings& run = settings.sampler;
  Json json;
  json.open('{').text("preset", settings.preset).whole("steps", settings.steps());
  json.text("solver", kSolverNames[static_cast<size_t>(run.solver)]).real("guidance", run.guidance);
  json.real("shift", settings.shift).key("interval").open('[').real(run.low).real(run.high).close(']');
  json.whole("reuse", run.reuse).key("times");
  if (settings.times_given) {
    json.open('[');
    for (const double time : run.times) json.real(time);
    json.close(']');
  } else {
    json.raw("null");
  }
  json.real("temperature", settings.temperature);
  if (settings.own_temperature && data.variation.rows > 0) json.real("open_temperature", data.number[kOpenTemperature]);
  return origin_of(data) + "," + json.str().substr(1);
}

}  // namespace topos
