// Functions of the border: meshes in the caller's memory.
#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "chosen.h"
#include "handles.h"
#include "normals.h"
#include "structs.h"

using namespace topos;

namespace {

// The positions and normals of a posed head, [V][3] each.
struct Pose {
  std::vector<float> positions, normals;

  Pose(const Head& head, const float* weights, const float* rotations) {
    const ModelData& data = head.model().data();
    if (!head.has_rig()) fail(TOPOS_E_UNSUPPORTED, "a pose", "a head without a rig", "one with a rig");
    const auto finite = [](const float* numbers, size_t count) {
      for (size_t at = 0; numbers != nullptr && at < count; ++at) {
        if (!std::isfinite(numbers[at])) fail(TOPOS_E_ARGUMENT, "a pose", "NaN or infinite", "finite numbers");
      }
    };
    finite(weights, data.rig.shapes);
    finite(rotations, 4 * size_t{data.rig.joints});
    for (size_t at = 0; rotations != nullptr && at < data.rig.joints; ++at) {
      const float* q = rotations + 4 * at;
      if (q[0] == 0 && q[1] == 0 && q[2] == 0 && q[3] == 0) {
        fail(TOPOS_E_ARGUMENT, "rotation of joint " + std::to_string(at), "a quaternion of zeros", "0, 0, 0, 1 at rest");
      }
    }
    const std::vector<double> wide =
        posed(head.positions(), data.vertices(), head.shapes(), weights, head.skin(), rotations);
    positions.assign(wide.begin(), wide.end());
    normals.resize(positions.size());
    const std::vector<int32_t>& corners = data.meshes[0].corners;
    vertex_normals(wide.data(), data.vertices(), corners.data(), corners.size() / 3, normals.data());
  }
};

// Of the copies of a level's vertices, [W][4] in glTF's axes, as its file has them.
std::vector<float> tangents_of(const MeshData& mesh, const Surface& surface) {
  std::vector<float> positions, normals, uvs, made(4 * mesh.source.rows);
  for (size_t at = 0; at < mesh.source.rows; ++at) {
    const auto row = 3 * static_cast<size_t>(mesh.source[at]);
    positions.insert(positions.end(), surface.positions + row, surface.positions + row + 3);
    normals.insert(normals.end(), surface.normals + row, surface.normals + row + 3);
    uvs.push_back(mesh.uvs[2 * at]);
    uvs.push_back(1 - mesh.uvs[2 * at + 1]);
  }
  tangents(positions.data(), normals.data(), uvs.data(), mesh.source.rows, mesh.triangles.data, mesh.triangles.rows,
           made.data());
  return made;
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
                                  const float* weights, const float* rotations, const topos_stream* streams, uint32_t num_streams,
                                  topos_error* error) {
  return guarded(error, [=] {
    const Model& of = needed(model, "model");
    const Head* shown = object(head);
    if (shown != nullptr && &shown->model() != &of) {
      fail(TOPOS_E_ARGUMENT, "the head to write", "one of another model", "one of this model");
    }
    const Chosen how = chosen(of, layout);
    Surface surface;
    surface.count = how.count();
    surface.source = how.mesh->source.data;  // its first rows are the level's own vertices
    if (shown != nullptr) {
      surface.positions = shown->positions();
      surface.normals = shown->normals();
    }
    std::optional<Pose> pose;
    if (weights != nullptr || rotations != nullptr) {
      if (shown == nullptr) fail(TOPOS_E_ARGUMENT, "a pose", "no head", "a head with a rig");
      pose.emplace(*shown, weights, rotations);
      surface.positions = pose->positions.data();
      surface.normals = pose->normals.data();
    }
    if (!how.in_order && how.mesh->uvs.rows > 0) surface.uvs = how.mesh->uvs.data;
    // Tangents can be written; they are made once a stream wants them.
    std::vector<float> made(1);
    if (surface.uvs != nullptr && surface.positions != nullptr) surface.tangents = made.data();
    if (of.has_rig()) {
      surface.joints = of.data().rig.skin_joints.data;
      surface.weights = of.data().rig.skin_weights.data;
      surface.num_joints = of.data().rig.joints;
    }
    const std::vector<Stream> checked = checked_streams(streams, num_streams, surface);
    const auto is_tangent = [](const Stream& stream) { return stream.attribute == Attribute::kTangent; };
    if (std::any_of(checked.begin(), checked.end(), is_tangent)) {
      made = tangents_of(*how.mesh, surface);
      surface.tangents = made.data();
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
    write_indices(how.mesh->corners.data(), triangles.rows, *how.axes, static_cast<Format>(format), data);
    return TOPOS_OK;
  });
}

}  // extern "C"
