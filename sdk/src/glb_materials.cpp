#include "glb_materials.h"

namespace topos {
namespace {

struct About {
  const char* name;
  double colour[3];  // linear
  double roughness;
  bool of_parts, translucent;
};

constexpr About kMaterials[] = {
    {"skin", {0.72, 0.50, 0.40}, 0.55, false, false},
    {"eyes", {0.60, 0.56, 0.51}, 0.06, false, false},
    {"mouth", {0.26, 0.085, 0.07}, 0.75, false, false},
    {"teeth", {0.74, 0.69, 0.60}, 0.4, true, false},
    {"lashes", {0.008, 0.005, 0.004}, 0.8, true, true},
};
constexpr int kAlbedo = 0, kOrm = 1, kNormal = 2;  // the textures of a head
constexpr const char* kSampler = R"({"magFilter":9729,"minFilter":9987,"wrapS":10497,"wrapT":10497})";

void texture(Json& to, const char* name, int index) { to.key(name).open('{').whole("index", index).close('}'); }

void colour(Json& to, const About& about) {
  to.key("baseColorFactor").open('[');
  for (const double value : about.colour) to.real(value);
  to.real(1).close(']');
}

// The skin, whose keys have an order of their own.
std::string skin_of(bool textured) {
  Json made;
  made.open('{').text("name", kMaterials[0].name).key("pbrMetallicRoughness").open('{');
  if (!textured) {
    colour(made, kMaterials[0]);
    return made.real("metallicFactor", 0).real("roughnessFactor", kMaterials[0].roughness).close('}').close('}').str();
  }
  texture(made, "baseColorTexture", kAlbedo);
  made.real("metallicFactor", 0);
  texture(made, "metallicRoughnessTexture", kOrm);
  made.close('}');
  texture(made, "occlusionTexture", kOrm);
  texture(made, "normalTexture", kNormal);
  return made.close('}').str();
}

std::string material_of(const About& about, bool textured, int part_picture) {
  Json made;
  made.open('{').text("name", about.name).key("pbrMetallicRoughness").open('{').real("metallicFactor", 0);
  made.real("roughnessFactor", about.roughness);
  if (about.of_parts || textured) {
    texture(made, "baseColorTexture", about.of_parts ? part_picture : kAlbedo);
  } else {
    colour(made, about);
  }
  made.close('}');
  const bool mouth = &about == kMaterials + 2;
  if (mouth && textured) texture(made, "occlusionTexture", kOrm);  // it is darker further in
  if (about.translucent) made.text("alphaMode", "BLEND").key("doubleSided").truth(true);
  return made.close('}').str();
}

}  // namespace

GlbMaterials::GlbMaterials(const GlbScene& scene, GlbBuffer& out) {
  const bool textured = !scene.texture.empty();
  std::vector<GlbPicture> pictures = scene.texture;
  if (scene.has_parts) pictures.push_back({"parts", "image/png", scene.part_picture});
  for (const About& about : kMaterials) {
    const auto part_picture = static_cast<int>(pictures.size()) - 1;
    found_[about.name] = &about == kMaterials ? skin_of(textured) : material_of(about, textured, part_picture);
  }
  if (pictures.empty()) return;
  Json made;
  made.key("images").open('[');
  for (const GlbPicture& picture : pictures) {
    made.open('{').text("name", picture.name).text("mimeType", picture.mime);
    made.whole("bufferView", out.file(picture.bytes)).close('}');
  }
  made.close(']').key("samplers").open('[').raw(kSampler).close(']').key("textures").open('[');
  for (size_t i = 0; i < pictures.size(); ++i) {
    made.open('{').whole("sampler", 0).whole("source", static_cast<int64_t>(i)).close('}');
  }
  tables_ = made.close(']').str();
}

std::string GlbMaterials::list(const std::vector<std::string_view>& names) const {
  Json made;
  made.open('[');
  for (const std::string_view name : names) made.raw(found_.at(name));
  return made.close(']').str();
}

}  // namespace topos
