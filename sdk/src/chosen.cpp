#include "chosen.h"

#include <cmath>
#include <string>

#include "fault.h"
#include "structs.h"

namespace topos {
namespace {

constexpr uint32_t kMostStreams = 64;

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

Chosen chosen(const Model& model, const topos_layout* given) {
  const topos_layout layout = taken_or_default(given, "topos_layout");
  const bool on_atlas = (layout.flags & TOPOS_LAYOUT_ATLAS) != 0;
  if (on_atlas && !model.data().textured()) {
    fail(TOPOS_E_UNSUPPORTED, "TOPOS_LAYOUT_ATLAS", "a model without an atlas", "a pack that has one");
  }
  const std::vector<MeshData>& meshes = on_atlas ? model.data().atlas_meshes : model.data().meshes;
  Chosen made{};
  made.axes = axes_facts(static_cast<Axes>(layout.axes));
  if (made.axes == nullptr) fail(TOPOS_E_ARGUMENT, "axes", std::to_string(layout.axes), "one of TOPOS_AXES_*");
  if (layout.lod >= meshes.size()) {
    fail(TOPOS_E_ARGUMENT, "level of detail", std::to_string(layout.lod), "0 to " + std::to_string(meshes.size() - 1));
  }
  if ((layout.flags & ~uint32_t{TOPOS_LAYOUT_TOPOLOGY_ORDER | TOPOS_LAYOUT_ATLAS}) != 0) {
    fail(TOPOS_E_ARGUMENT, "topos_layout.flags", std::to_string(layout.flags), "bits of TOPOS_LAYOUT_*");
  }
  if (!(layout.unit >= 0 && layout.unit <= 1e6F)) {
    fail(TOPOS_E_ARGUMENT, "unit", std::to_string(layout.unit), "0 to 1e6 units a metre");
  }
  made.mesh = &meshes[layout.lod];
  made.unit = layout.unit != 0 ? layout.unit : made.axes->unit;
  made.in_order = (layout.flags & TOPOS_LAYOUT_TOPOLOGY_ORDER) != 0;
  return made;
}

std::vector<Stream> checked_streams(const topos_stream* streams, uint32_t count, const Surface& surface) {
  if (streams == nullptr || count == 0 || count > kMostStreams) {
    fail(TOPOS_E_ARGUMENT, "streams", streams == nullptr ? "NULL" : std::to_string(count), "1 to 64");
  }
  std::vector<Stream> checked;
  for (uint32_t at = 0; at < count; ++at) {
    const topos_stream given = taken(item(streams, at), "topos_stream");
    if (given.data == nullptr) fail(TOPOS_E_ARGUMENT, "stream " + std::to_string(at), "data NULL", "memory");
    checked.push_back({static_cast<Attribute>(given.attribute), static_cast<Format>(given.format), given.offset,
                       given.stride, static_cast<uint8_t*>(given.data), given.capacity});
    const StreamError wrong = check_stream(checked.back(), surface);
    if (wrong != StreamError::kNone) refuse(wrong, at, surface);
  }
  return checked;
}

}  // namespace topos
