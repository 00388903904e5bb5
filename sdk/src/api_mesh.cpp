// Functions of the border: meshes in the caller's memory.
#include <cmath>
#include <vector>

#include "handles.h"
#include "streams.h"
#include "structs.h"

using namespace topos;

namespace {

constexpr uint32_t kMostStreams = 64;

struct Chosen {
  const MeshData* mesh;
  const AxesFacts* axes;
  float unit;
  bool in_order;  // the level's own vertices, without copies for seams

  size_t count() const { return in_order ? mesh->vertices : mesh->source.rows; }
};

Chosen chosen(const Model& model, const topos_layout* given) {
  const topos_layout layout = taken_or_default(given, "topos_layout");
  const std::vector<MeshData>& meshes = model.data().meshes;
  Chosen made{};
  made.axes = axes_facts(static_cast<Axes>(layout.axes));
  if (made.axes == nullptr) fail(TOPOS_E_ARGUMENT, "axes", std::to_string(layout.axes), "one of TOPOS_AXES_*");
  if (layout.lod >= meshes.size()) {
    fail(TOPOS_E_ARGUMENT, "level of detail", std::to_string(layout.lod), "0 to " + std::to_string(meshes.size() - 1));
  }
  if ((layout.flags & ~uint32_t{TOPOS_LAYOUT_TOPOLOGY_ORDER}) != 0) {
    fail(TOPOS_E_ARGUMENT, "topos_layout.flags", std::to_string(layout.flags), "bits of TOPOS_LAYOUT_*");
  }
  if (!(layout.unit >= 0 && layout.unit <= 1e6F)) {
    fail(TOPOS_E_ARGUMENT, "unit", std::to_string(layout.unit), "0 to 1e6 units a metre");
  }
  made.mesh = &meshes[layout.lod];
  made.unit = layout.unit;
  made.in_order = (layout.flags & TOPOS_LAYOUT_TOPOLOGY_ORDER) != 0;
  return made;
}

// For each vertex with copies, the one of the level's own that it stands for.
std::vector<int32_t> without_copies(const MeshData& mesh, size_t vertices) {
  std::vector<int32_t> number(vertices, 0), own(mesh.source.rows);
  for (uint32_t at = 0; at < mesh.vertices; ++at) number[static_cast<size_t>(mesh.source[at])] = static_cast<int32_t>(at);
  for (size_t at = 0; at < own.size(); ++at) own[at] = number[static_cast<size_t>(mesh.source[at])];
  return own;
}

[[noreturn]] void refuse(StreamError error, uint32_t number, const Surface& surface) {
  struct Said {
    topos_status status;
    const char* got;
    const char* expected;
  };
  static constexpr Said kSaid[] = {
      {TOPOS_E_INTERNAL, "no error", ""},
      {TOPOS_E_ARGUMENT, "another attribute", "one of the header"},
      {TOPOS_E_ARGUMENT, "another format", "one that the attribute can have"},
      {TOPOS_E_ARGUMENT, "a stride that is too small", "the size of a value or more"},
      {TOPOS_E_CAPACITY, "too little memory", "room for all vertices"},
      {TOPOS_E_UNSUPPORTED, "an attribute that this model or call does not have", "a head, UVs or a rig"},
      {TOPOS_E_UNSUPPORTED, "a format whose numbers are too small", "a wider format"},
  };
  const Said& said = kSaid[static_cast<size_t>(error)];
  fail(said.status, "stream " + std::to_string(number), said.got,
       std::string(said.expected) + ", for " + std::to_string(surface.count) + " vertices");
}

}  // namespace

extern "C" {

topos_status topos_model_counts(topos_model* model, const topos_layout* layout, topos_mesh_counts* out) {
  return guarded(nullptr, [=] {
    const Model& of = needed(model, "model");
    const Chosen how = chosen(of, layout);
    topos_mesh_counts counts{};
    counts.num_vertices = static_cast<uint32_t>(how.count());
    counts.num_indices = static_cast<uint32_t>(how.mesh->triangles.count());
    counts.num_shapes = of.has_rig() ? of.data().rig.shapes : 0;
    counts.num_joints = of.has_rig() ? of.data().rig.joints : 0;
    give(out, counts, "topos_mesh_counts");
    return TOPOS_OK;
  });
}

topos_status topos_write_vertices(topos_model* model, topos_head* head, const topos_layout* layout,
                                  const topos_stream* streams, uint32_t num_streams, topos_error* error) {
  return guarded(error, [=] {
    const Model& of = needed(model, "model");
    const Head* shown = object(head);
    if (shown != nullptr && &shown->model() != &of) {
      fail(TOPOS_E_ARGUMENT, "the head to write", "one of another model", "one of this model");
    }
    const Chosen how = chosen(of, layout);
    if (streams == nullptr || num_streams == 0 || num_streams > kMostStreams) {
      fail(TOPOS_E_ARGUMENT, "streams", streams == nullptr ? "NULL" : std::to_string(num_streams), "1 to 64");
    }
    Surface surface;
    surface.count = how.count();
    surface.source = how.mesh->source.data;  // its first rows are the level's own vertices
    if (shown != nullptr) {
      surface.positions = shown->positions();
      surface.normals = shown->normals();
    }
    if (!how.in_order && how.mesh->uvs.rows > 0) surface.uvs = how.mesh->uvs.data;
    if (of.has_rig()) {
      surface.joints = of.data().rig.skin_joints.data;
      surface.weights = of.data().rig.skin_weights.data;
      surface.num_joints = of.data().rig.joints;
    }
    std::vector<Stream> checked;
    for (uint32_t at = 0; at < num_streams; ++at) {
      const topos_stream given = taken(item(streams, at), "topos_stream");
      if (given.data == nullptr) fail(TOPOS_E_ARGUMENT, "stream " + std::to_string(at), "data NULL", "memory");
      checked.push_back({static_cast<Attribute>(given.attribute), static_cast<Format>(given.format), given.offset,
                         given.stride, static_cast<uint8_t*>(given.data), given.capacity});
      const StreamError wrong = check_stream(checked.back(), surface);
      if (wrong != StreamError::kNone) refuse(wrong, at, surface);
    }
    write_streams(surface, *how.axes, how.unit, checked.data(), checked.size());
    return TOPOS_OK;
  });
}

topos_status topos_write_indices(topos_model* model, const topos_layout* layout, topos_format format, void* data,
                                 uint64_t capacity, topos_error* error) {
  return guarded(error, [=] {
    const Model& of = needed(model, "model");
    const Chosen how = chosen(of, layout);
    if (format != TOPOS_U16 && format != TOPOS_U32) {
      fail(TOPOS_E_ARGUMENT, "format of indices", std::to_string(format), "TOPOS_U16 or TOPOS_U32");
    }
    if (format == TOPOS_U16 && how.count() > 0xffff) {
      fail(TOPOS_E_UNSUPPORTED, "format of indices", "TOPOS_U16 for " + std::to_string(how.count()) + " vertices",
           "at most 65535", "use TOPOS_U32");
    }
    if (data == nullptr) fail(TOPOS_E_ARGUMENT, "memory for indices", "NULL", "memory");
    const Rows<int32_t>& triangles = how.mesh->triangles;
    const uint64_t size = triangles.count() * format_size(static_cast<Format>(format));
    if (capacity < size) {
      fail(TOPOS_E_CAPACITY, "memory for indices", std::to_string(capacity) + " bytes", std::to_string(size));
    }
    if (!how.in_order) {
      write_indices(triangles.data, triangles.rows, *how.axes, static_cast<Format>(format), data);
      return TOPOS_OK;
    }
    // In the level's own order: copies go back to the vertex that they were made from.
    const std::vector<int32_t> own = without_copies(*how.mesh, of.data().vertices());
    std::vector<int32_t> ids(triangles.count());
    for (size_t at = 0; at < ids.size(); ++at) ids[at] = own[static_cast<size_t>(triangles[at])];
    write_indices(ids.data(), triangles.rows, *how.axes, static_cast<Format>(format), data);
    return TOPOS_OK;
  });
}

}  // extern "C"
