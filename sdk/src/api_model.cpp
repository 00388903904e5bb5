// Functions of the border: models.
#include "handles.h"
#include "structs.h"

using namespace topos;

namespace {

constexpr size_t kFirstRequirements = offsetof(topos_requirements, estimated);

topos_load_options checked(const topos_load_options* given) {
  const topos_load_options options = taken_or_default(given, "topos_load_options");
  const bool known = options.backend >= TOPOS_BACKEND_AUTO && options.backend <= TOPOS_BACKEND_CUDA;
  if (!known && options.backend != TOPOS_BACKEND_FAKE) {
    fail(TOPOS_E_UNSUPPORTED, "topos_load_options.backend", std::to_string(options.backend), "one of TOPOS_BACKEND_*");
  }
  if ((options.flags & ~uint32_t{TOPOS_LOAD_WARM_UP | TOPOS_LOAD_NO_RIG | TOPOS_LOAD_NO_FACES}) != 0) {
    fail(TOPOS_E_ARGUMENT, "topos_load_options.flags", std::to_string(options.flags), "bits of TOPOS_LOAD_*");
  }
  return options;
}

topos_source checked(const topos_source* given) {
  const topos_source source = taken(given, "topos_source");
  if ((source.flags & ~uint32_t{TOPOS_SOURCE_VERIFY}) != 0) {
    fail(TOPOS_E_ARGUMENT, "topos_source.flags", std::to_string(source.flags), "bits of TOPOS_SOURCE_*");
  }
  return source;
}

uint32_t features_of(const Model& model) {
  const ModelData& data = model.data();
  uint32_t found = model.has_rig() ? uint32_t{TOPOS_FEATURE_RIG} : 0U;
  if (data.meshes[0].uvs.rows > 0) found |= TOPOS_FEATURE_UVS;
  if (data.textured()) found |= TOPOS_FEATURE_TEXTURE;
  for (const Evidence* seen : data.evidence) {
    found |= TOPOS_FEATURE_EVIDENCE | (seen->biometric ? uint32_t{TOPOS_FEATURE_BIOMETRIC} : 0U);
  }
  return found;
}

}  // namespace

extern "C" {

topos_status topos_get_requirements(topos_runtime* runtime, const topos_source* source,
                                    const topos_load_options* options, topos_requirements* out, topos_error* error) {
  return guarded(error, [=] {
    Runtime& of = needed(runtime, "runtime");
    topos_source from = checked(source);
    const topos_backend backend = backend_of(of, checked(options).backend);
    from.release = nullptr;  // the caller keeps its memory
    const PackMemory memory(of.host(), from);
    const ModelData data{Pack(memory.data(), memory.size())};
    give(out, requirements_of(of, data, memory, backend), "topos_requirements", kFirstRequirements);
    return TOPOS_OK;
  });
}

topos_status topos_model_load(topos_runtime* runtime, const topos_source* source, const topos_load_options* options,
                              topos_model** out, topos_error* error) {
  return guarded(error, [=] {
    need_out(out, "out of topos_model_load");
    Runtime& of = needed(runtime, "runtime");
    of.check_process();
    const topos_load_options how = checked(options);
    hand_out(Model::load(Ref<Runtime>(&of), checked(source), how), out);
    return TOPOS_OK;
  });
}

void topos_model_retain(topos_model* model) { retain(model); }
void topos_model_release(topos_model* model) { release(model); }

topos_status topos_model_get_info(topos_model* model, topos_model_info* out) {
  return guarded(nullptr, [=] {
    const Model& of = needed(model, "model");
    const ModelData& data = of.data();
    topos_model_info info{};
    info.backend = of.backend();
    info.name = data.about[kName];
    info.weights_licence = data.about[kLicence];
    std::memcpy(info.topology_id, data.topology_id, sizeof info.topology_id);
    info.num_vertices = data.size[kVertices];
    info.num_lods = static_cast<uint32_t>(data.meshes.size());
    info.num_shapes = of.has_rig() ? data.rig.shapes : 0;
    info.num_joints = of.has_rig() ? data.rig.joints : 0;
    info.latent_tokens = data.size[kLatentTokens];
    info.latent_channels = data.size[kLatentChannels];
    info.image_width = data.size[kImageWidth];
    info.image_height = data.size[kImageHeight];
    info.features = features_of(of);
    info.num_presets = static_cast<uint32_t>(data.presets.size());
    give(out, info, "topos_model_info");
    return TOPOS_OK;
  });
}

const char* topos_model_preset_name(topos_model* model, uint32_t preset) {
  return model == nullptr ? nullptr : object(model)->data().pack.string(Kind::kPresetNames, preset);
}

const char* topos_model_licence(topos_model* model, uint32_t licence, const char** text) {
  if (model == nullptr) return nullptr;
  const Pack& pack = object(model)->data().pack;
  const char* name = pack.string(Kind::kLicenceNames, licence);
  if (name != nullptr && text != nullptr) *text = pack.string(Kind::kLicenceTexts, licence);
  return name;
}

const char* topos_model_shape_name(topos_model* model, uint32_t shape) {
  if (model == nullptr || !object(model)->has_rig()) return nullptr;
  return object(model)->data().pack.string(Kind::kShapeNames, shape);
}

const char* topos_model_joint(topos_model* model, uint32_t joint, int32_t* parent) {
  if (model == nullptr || !object(model)->has_rig()) return nullptr;
  const ModelData& data = object(model)->data();
  if (joint >= data.rig.joints) return nullptr;
  if (parent != nullptr) *parent = data.rig.parents[joint];
  return data.pack.string(Kind::kJointNames, joint);
}

const char* topos_model_region(topos_model* model, uint32_t region, const int32_t** ids, uint32_t* count) {
  if (model == nullptr) return nullptr;
  const ModelData& data = object(model)->data();
  const char* name = data.pack.string(Kind::kRegionNames, region);
  if (name == nullptr) return nullptr;
  const int32_t begin = data.region_offsets[region], end = data.region_offsets[size_t{region} + 1];
  if (ids != nullptr) *ids = data.region_vertices.data + begin;
  if (count != nullptr) *count = static_cast<uint32_t>(end - begin);
  return name;
}

}  // extern "C"
