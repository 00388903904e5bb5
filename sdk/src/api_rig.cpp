// Functions of the border: blendshapes and joints.
#include <algorithm>
#include <vector>

#include "chosen.h"
#include "handles.h"
#include "structs.h"

using namespace topos;

namespace {

void require_shape(const Model& model, uint32_t shape) {
  const uint32_t count = model.has_rig() ? model.data().rig.shapes : 0;
  if (shape >= count) {
    fail(TOPOS_E_ARGUMENT, "blendshape", std::to_string(shape), "a number below " + std::to_string(count));
  }
}

// Which entry of a shape moves each vertex of the topology; -1: none.
std::vector<int32_t> entries_of(const ModelData& data, uint32_t shape) {
  std::vector<int32_t> entries(data.vertices(), -1);
  for (int32_t at = data.rig.shape_offsets[shape]; at < data.rig.shape_offsets[size_t{shape} + 1]; ++at) {
    entries[static_cast<size_t>(data.rig.shape_index[static_cast<size_t>(at)])] = at;
  }
  return entries;
}

// The vertices of a layout that a shape moves, and the entry that moves each.
struct Moved {
  std::vector<uint32_t> ids;
  std::vector<int32_t> entries;

  Moved(const ModelData& data, const Chosen& how, uint32_t shape) {
    const std::vector<int32_t> all = entries_of(data, shape);
    for (size_t at = 0; at < how.count(); ++at) {
      const int32_t entry = all[static_cast<size_t>(how.mesh->source[at])];
      if (entry < 0) continue;
      ids.push_back(static_cast<uint32_t>(at));
      entries.push_back(entry);
    }
  }
};

// What the shape adds to normals of a level of detail: by entry, [K][3], of which only the shape's are written.
std::vector<float> normal_changes(const Head& head, const MeshData& mesh, uint32_t shape) {
  const ModelData& data = head.model().data();
  std::vector<float> own(3 * size_t{mesh.vertices});
  std::vector<int32_t> numbers(data.vertices(), -1);
  for (size_t at = 0; at < mesh.vertices; ++at) {
    const auto from = static_cast<size_t>(mesh.source[at]);
    std::copy_n(head.positions() + 3 * from, 3, own.data() + 3 * at);
    numbers[from] = static_cast<int32_t>(at);
  }
  const ReducedShapes reduced(head.shapes(), numbers);
  const Shapes view = reduced.view();
  std::vector<float> changes(3 * (view.end(shape) - view.begin(shape)));
  MorphNormals(own.data(), mesh.vertices, mesh.corners.data(), mesh.corners.size() / 3)
      .changes(view, shape, changes.data());
  // From the entries that the level has to those of the topology.
  std::vector<float> out(3 * data.rig.shape_index.rows);
  const Shapes all = head.shapes();
  size_t next = 0;
  for (size_t entry = all.begin(shape); entry < all.end(shape); ++entry) {
    if (numbers[static_cast<size_t>(all.index[entry])] < 0) continue;
    std::copy_n(changes.data() + 3 * next++, 3, out.data() + 3 * entry);
  }
  return out;
}

void write_vectors(const topos_stream& given, const Chosen& how, const Moved& moved, const float* by_entry, float scale,
                   bool sparse) {
  const size_t count = sparse ? moved.ids.size() : how.count();
  std::vector<float> vectors(3 * std::max<size_t>(count, 1), 0.0F);
  for (size_t at = 0; at < moved.ids.size(); ++at) {
    const size_t row = sparse ? at : moved.ids[at];
    for (size_t k = 0; k < 3; ++k) vectors[3 * row + k] = by_entry[3 * static_cast<size_t>(moved.entries[at]) + k] * scale;
  }
  Surface surface;
  surface.count = count;
  surface.normals = vectors.data();  // as normals, vectors have 0 for a fourth number
  topos_stream stream = given;
  stream.struct_size = sizeof stream;
  stream.attribute = TOPOS_NORMAL;
  if (given.format != TOPOS_F32X3 && given.format != TOPOS_F32X4 && given.format != TOPOS_F16X4) {
    fail(TOPOS_E_ARGUMENT, "format of a blendshape", std::to_string(given.format), "F32X3, F32X4 or F16X4");
  }
  const std::vector<Stream> checked = checked_streams(&stream, 1, surface);
  write_streams(surface, *how.axes, 1, checked.data(), checked.size());
}

}  // namespace

extern "C" {

topos_status topos_write_shape_vertices(topos_model* model, const topos_layout* layout, uint32_t shape, uint32_t* ids,
                                        uint64_t capacity, uint32_t* count) {
  return guarded(nullptr, [=]() -> topos_status {
    const Model& of = needed(model, "model");
    if (count == nullptr) return TOPOS_E_ARGUMENT;
    require_shape(of, shape);
    const Moved moved(of.data(), chosen(of, layout), shape);
    *count = static_cast<uint32_t>(moved.ids.size());
    if (ids == nullptr) return TOPOS_OK;
    if (capacity < moved.ids.size()) return TOPOS_E_CAPACITY;
    std::copy(moved.ids.begin(), moved.ids.end(), ids);
    return TOPOS_OK;
  });
}

topos_status topos_write_shape(topos_head* head, const topos_layout* layout, uint32_t shape, uint32_t sparse,
                               const topos_stream* positions, const topos_stream* normals, topos_error* error) {
  return guarded(error, [=] {
    const Head& of = needed(head, "head");
    const Model& model = of.model();
    if (!of.has_rig()) fail(TOPOS_E_UNSUPPORTED, "a blendshape", "a head without a rig", "one with a rig");
    require_shape(model, shape);
    if (sparse > 1) fail(TOPOS_E_ARGUMENT, "sparse", std::to_string(sparse), "0 or 1");
    const Chosen how = chosen(model, layout);
    const Moved moved(model.data(), how, shape);
    if (positions != nullptr) {
      write_vectors(taken(positions, "topos_stream"), how, moved, of.shapes().delta, how.unit, sparse != 0);
    }
    if (normals != nullptr) {
      const std::vector<float> changes = normal_changes(of, *how.mesh, shape);
      write_vectors(taken(normals, "topos_stream"), how, moved, changes.data(), 1, sparse != 0);
    }
    return TOPOS_OK;
  });
}

topos_status topos_write_joints(topos_head* head, const topos_layout* layout, float* translations, float* inverse_binds,
                                topos_error* error) {
  return guarded(error, [=] {
    const Head& of = needed(head, "head");
    if (!of.has_rig()) fail(TOPOS_E_UNSUPPORTED, "joints", "a head without a rig", "one with a rig");
    const Chosen how = chosen(of.model(), layout);
    const PackRig& rig = of.model().data().rig;
    for (size_t joint = 0; joint < rig.joints; ++joint) {
      const float* at = of.joints() + 3 * joint;
      if (translations != nullptr) {
        const int32_t parent = rig.parents[joint];
        float from[3] = {at[0], at[1], at[2]};
        for (size_t k = 0; parent >= 0 && k < 3; ++k) from[k] -= of.joints()[3 * static_cast<size_t>(parent) + k];
        turned(*how.axes, from, how.unit, translations + 3 * joint);
      }
      if (inverse_binds != nullptr) {
        float* matrix = inverse_binds + 16 * joint;
        std::fill_n(matrix, 16, 0.0F);
        for (size_t k = 0; k < 4; ++k) matrix[5 * k] = 1;
        const float back[3] = {-at[0], -at[1], -at[2]};
        turned(*how.axes, back, how.unit, matrix + 12);
      }
    }
    return TOPOS_OK;
  });
}

}  // extern "C"
