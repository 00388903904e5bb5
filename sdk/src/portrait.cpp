#include "portrait.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "fault.h"
#include "head_fit.h"
#include "json.h"

namespace topos {
namespace {

constexpr double kDegrees = 180.0 / 3.141592653589793238462643383279502884;

Square middle_square(const Box& box) {
  Square square;
  square.x = box.left + box.width() / 2.0;
  square.y = box.top + box.height() / 2.0;
  square.side = std::min(box.width(), box.height());
  return square;
}

Box whole(const Picture& picture) { return {0, 0, picture.width, picture.height}; }

void take_without_face(const FaceChoice& choice, Portrait* portrait) {
  portrait->crop = choice.crop == Crop::kAuto ? Crop::kNone : choice.crop;
  portrait->box = portrait->crop == Crop::kBox ? choice.box : whole(portrait->picture);
  portrait->square = middle_square(portrait->box);
}

void check_box(const Picture& picture, const FaceChoice& choice) {
  if (choice.crop != Crop::kBox || (choice.box.right <= picture.width && choice.box.bottom <= picture.height)) return;
  fail(TOPOS_E_ARGUMENT, "crop_box", "x to " + std::to_string(choice.box.right) + ", y to " +
       std::to_string(choice.box.bottom), "a box inside the upright picture of " + std::to_string(picture.width) + " x " +
       std::to_string(picture.height) + " pixels");
}

std::string counted(size_t count) { return std::to_string(count) + (count == 1 ? " face" : " faces"); }

Json& strings(Json& json, const std::vector<std::string>& texts) {
  json.open('[');
  for (const std::string& text : texts) json.text(text);
  return json.close(']');
}

// As Face.facts.
std::string facts_of(const Face& face) {
  Json json;
  json.open('{').key("box").open('[');
  for (const double value : face.box) json.raw(rounded_text(value, 1));
  json.close(']').raw("size_px", rounded_text(face.size(), 1)).raw("confidence", rounded_text(face.confidence, 4));
  json.raw("yaw", rounded_text(face.angles.yaw, 1)).raw("pitch", rounded_text(face.angles.pitch, 1));
  json.raw("roll", rounded_text(face.angles.roll, 1)).key("warnings");
  return strings(json, face.warnings).close('}').str();
}

}  // namespace

std::vector<float> Portrait::pixels(int height, int width) const {
  if (crop == Crop::kAuto) {
    return fitted_pixels(cut(on_black(picture), square, std::max(height, width), true), height, width);
  }
  return crop == Crop::kBox ? pixels_of(cropped(picture, box), height, width) : pixels_of(picture, height, width);
}

std::string Portrait::facts(const std::vector<std::string>& more) const {
  Json json;
  json.open('{').raw("face", face ? facts_of(*face) : "null").key("crop").open('{').key("centre").open('[');
  json.raw(rounded_text(square.x, 1)).raw(rounded_text(square.y, 1)).close(']');
  // A side in whole pixels is a whole number in Python too.
  json.raw("side", crop == Crop::kAuto ? rounded_text(square.side, 1) : std::to_string(static_cast<int>(square.side)));
  json.raw("angle_degrees", rounded_text(square.angle * kDegrees, 2)).close('}').key("warnings");
  std::vector<std::string> all = warnings;
  all.insert(all.end(), more.begin(), more.end());
  return strings(json, all).str().substr(1);
}

FaceSearch search_of(const Picture& picture, const FaceChoice& choice, const CanonicalFace& canonical) {
  check_box(picture, choice);
  const bool part = choice.crop == Crop::kBox;
  return FaceSearch(part ? on_black(cropped(picture, choice.box)) : on_black(picture), canonical, kMostFaces);
}

Portrait portrait_of(Picture picture, const FaceChoice& choice, std::vector<Face> faces) {
  Portrait portrait;
  portrait.picture = std::move(picture);
  const Picture& shown = portrait.picture;
  check_box(shown, choice);
  if (!choice.looks()) {
    take_without_face(choice, &portrait);
    return portrait;
  }
  if (choice.crop == Crop::kBox) {
    for (Face& face : faces) face = face.moved(choice.box.left, choice.box.top);
  }
  if (faces.empty()) {
    if (choice.check) {
      fail(TOPOS_E_IMAGE, "an image", "a picture in which no face was found", "a portrait of a person",
           "use another picture, or TOPOS_REQUEST_NO_FACE_CHECK for drawings and renders");
    }
    take_without_face(choice, &portrait);
    portrait.warnings.emplace_back("no face was found; the whole picture was taken");
    return portrait;
  }
  if (choice.face >= faces.size()) {
    fail(TOPOS_E_IMAGE, "face number " + std::to_string(choice.face + 1) + " of an image",
         "a picture in which " + counted(faces.size()) + (faces.size() == 1 ? " was found" : " were found"),
         "1 to " + std::to_string(faces.size()) + ", counted from the largest");
  }
  Face& face = faces[choice.face];
  if (face.hidden() && choice.check) {
    fail(TOPOS_E_IMAGE, "an image", "a face turned by " + std::to_string(std::lround(std::fabs(face.angles.yaw))) + " degrees",
         "at most 60", "use a picture in which the person looks towards the camera");
  }
  if (faces.size() > 1 && choice.face == 0) {
    portrait.warnings.push_back(counted(faces.size()) + " were found, and the largest was taken");
  }
  portrait.warnings.insert(portrait.warnings.end(), face.warnings.begin(), face.warnings.end());
  portrait.crop = choice.crop;
  portrait.box = choice.crop == Crop::kBox ? choice.box : whole(shown);
  portrait.square = choice.crop == Crop::kAuto ? portrait_square(face) : middle_square(portrait.box);
  portrait.face = std::move(face);
  return portrait;
}

}  // namespace topos
