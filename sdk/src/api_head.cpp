// Functions of the border: heads.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "handles.h"
#include "head_file.h"
#include "structs.h"

using namespace topos;

namespace {

constexpr uint32_t kExports = TOPOS_EXPORT_NO_RIG | TOPOS_EXPORT_NO_PARTS | TOPOS_EXPORT_NO_TEXTURE | TOPOS_EXPORT_PNG;

}  // namespace

extern "C" {

void topos_head_retain(topos_head* head) { retain(head); }
void topos_head_release(topos_head* head) { release(head); }

topos_status topos_head_get_info(topos_head* head, topos_head_info* out) {
  return guarded(nullptr, [=] {
    const Head& of = needed(head, "head");
    const ModelData& data = of.model().data();
    topos_head_info info{};
    info.has_rig = of.has_rig() ? 1 : 0;
    info.is_preview = of.preview ? 1 : 0;
    info.step = of.step;
    info.seed = of.seed;
    info.metadata = of.metadata.c_str();
    std::memcpy(info.topology_id, data.topology_id, sizeof info.topology_id);
    for (size_t axis = 0; axis < 3; ++axis) {
      info.bounds_min[axis] = info.bounds_max[axis] = of.positions()[axis];
      for (size_t vertex = 1; vertex < data.vertices(); ++vertex) {
        const float at = of.positions()[3 * vertex + axis];
        info.bounds_min[axis] = std::min(info.bounds_min[axis], at);
        info.bounds_max[axis] = std::max(info.bounds_max[axis], at);
      }
    }
    give(out, info, "topos_head_info");
    return TOPOS_OK;
  });
}

topos_status topos_head_get_latent(topos_head* head, float* out, uint64_t capacity) {
  return guarded(nullptr, [=]() -> topos_status {
    const Head& of = needed(head, "head");
    if (out == nullptr) return TOPOS_E_ARGUMENT;
    if (!of.has_latent()) return TOPOS_E_UNSUPPORTED;
    const size_t count = of.model().data().latent();
    if (capacity < count) return TOPOS_E_CAPACITY;
    std::memcpy(out, of.latent(), count * sizeof(float));
    return TOPOS_OK;
  });
}

topos_status topos_head_get_face(topos_head* head, topos_face* out) {
  return guarded(nullptr, [=] {
    const Head::Seen& seen = needed(head, "head").seen;
    topos_face made{};
    const auto narrow = [](const auto& from, size_t count, float* to) {
      for (size_t at = 0; at < count; ++at) to[at] = static_cast<float>(from[at]);
    };
    const double crop[4] = {seen.square.x, seen.square.y, seen.square.side, seen.square.angle};
    narrow(crop, 4, made.crop);
    if (seen.face) {
      const Face& face = *seen.face;
      made.found = 1;
      narrow(face.box, 4, made.box);
      made.yaw = static_cast<float>(face.angles.yaw);
      made.pitch = static_cast<float>(face.angles.pitch);
      made.roll = static_cast<float>(face.angles.roll);
      made.confidence = static_cast<float>(face.confidence);
      if (!face.landmarks.empty()) {
        made.landmarks = face.landmarks.data();
        narrow(face.scores, kExpressions, made.scores);
      }
    }
    if (seen.fitted) {
      made.fitted = 1;
      made.residual = static_cast<float>(seen.fit.residual);
      narrow(seen.fit.camera.turn, 9, made.turn);
      narrow(seen.fit.camera.shift, 3, made.shift);
      made.focal = static_cast<float>(seen.fit.camera.focal);
      narrow(seen.fit.camera.centre, 2, made.centre);
    }
    give(out, made, "topos_face");
    return TOPOS_OK;
  });
}

topos_status topos_head_get_expression(topos_head* head, float* out, uint64_t capacity) {
  return guarded(nullptr, [=]() -> topos_status {
    const Head& of = needed(head, "head");
    if (out == nullptr) return TOPOS_E_ARGUMENT;
    if (!of.seen.fitted || !of.has_rig()) return TOPOS_E_UNSUPPORTED;
    if (capacity < of.seen.weights.size()) return TOPOS_E_CAPACITY;
    std::copy(of.seen.weights.begin(), of.seen.weights.end(), out);
    return TOPOS_OK;
  });
}

topos_status topos_head_from_positions(topos_model* model, const float* positions, const float* normals,
                                       topos_head** out, topos_error* error) {
  return guarded(error, [=] {
    need_out(out, "out of topos_head_from_positions");
    Model& of = needed(model, "model");
    if (positions == nullptr) fail(TOPOS_E_ARGUMENT, "positions", "NULL", "positions of all vertices");
    for (const float* numbers : {positions, normals}) {
      for (size_t at = 0; numbers != nullptr && at < 3 * of.data().vertices(); ++at) {
        if (!(std::fabs(numbers[at]) <= 1e6F)) {
          fail(TOPOS_E_ARGUMENT, "positions or normals", "a number that is not finite, or huge", "numbers up to 1e6");
        }
      }
    }
    Ref<Head> head = Head::placed(Ref<Model>(&of), positions, normals);
    if (of.has_rig()) head->fit_rig();
    hand_out(std::move(head), out);
    return TOPOS_OK;
  });
}

topos_status topos_head_write_glb(topos_head* head, uint32_t lod, uint32_t flags, topos_write_callback write, void* user,
                                  topos_error* error) {
  return guarded(error, [=] {
    const Head& of = needed(head, "head");
    if (write == nullptr) fail(TOPOS_E_ARGUMENT, "write", "NULL", "a callback");
    if ((flags & ~kExports) != 0) {
      fail(TOPOS_E_ARGUMENT, "flags", std::to_string(flags), "bits of TOPOS_EXPORT_*");
    }
    if (lod >= of.model().data().meshes.size()) {
      fail(TOPOS_E_ARGUMENT, "level of detail", std::to_string(lod),
           "0 to " + std::to_string(of.model().data().meshes.size() - 1));
    }
    const std::string file = glb_of_head(of, lod, flags);
    if (write(user, file.data(), file.size()) != 0) fail(TOPOS_E_IO, "writing a GLB", "a callback that failed");
    return TOPOS_OK;
  });
}

}  // extern "C"
