#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

// jpeglib.h needs what stdio declares.
#include <jerror.h>
#include <jpeglib.h>

#include "decode_formats.h"
#include "picture_files.h"

namespace topos {
namespace {

constexpr int kApp1 = JPEG_APP0 + 1, kApp2 = JPEG_APP0 + 2;
constexpr unsigned kWholeMarker = 0xFFFF;
constexpr int kQuality = 92;
constexpr char kExif[] = "Exif\0", kXmp[] = "http://ns.adobe.com/xap/1.0/", kIcc[] = "ICC_PROFILE";

// libjpeg leaves a function in which it failed by a jump, which passes no destructor: the functions that call it own
// nothing.
struct Errors {
  jpeg_error_mgr base;
  std::jmp_buf back;
  bool ended;  // the file, before its picture did
};

Errors* errors_of(j_common_ptr info) { return reinterpret_cast<Errors*>(info->err); }

void leave(j_common_ptr info) { std::longjmp(errors_of(info)->back, 1); }
void note(j_common_ptr info, int) {
  if (info->err->msg_code == JWRN_JPEG_EOF) errors_of(info)->ended = true;
}
void say_nothing(j_common_ptr) {}

bool read_header(jpeg_decompress_struct& info, Errors& errors, const uint8_t* bytes, size_t size) {
  if (setjmp(errors.back) != 0) return false;
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, bytes, static_cast<unsigned long>(size));
  jpeg_save_markers(&info, kApp1, kWholeMarker);
  jpeg_save_markers(&info, kApp2, kWholeMarker);
  jpeg_read_header(&info, TRUE);
  info.out_color_space = info.num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
  return true;
}

bool read_rows(jpeg_decompress_struct& info, Errors& errors, uint8_t* out) {
  if (setjmp(errors.back) != 0) return false;
  jpeg_start_decompress(&info);
  const size_t row = static_cast<size_t>(info.output_width) * static_cast<size_t>(info.output_components);
  while (info.output_scanline < info.output_height) {
    JSAMPROW rows[] = {out + row * info.output_scanline};
    jpeg_read_scanlines(&info, rows, 1);
  }
  jpeg_finish_decompress(&info);
  return !errors.ended;
}

// out: the file, which libjpeg allocates. pixels: [side][side][3].
bool write_rows(jpeg_compress_struct& info, Errors& errors, const uint8_t* pixels, int side, unsigned char** out,
                unsigned long* size) {
  if (setjmp(errors.back) != 0) return false;
  jpeg_create_compress(&info);
  jpeg_mem_dest(&info, out, size);
  info.image_width = static_cast<JDIMENSION>(side);
  info.image_height = static_cast<JDIMENSION>(side);
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, kQuality, TRUE);
  info.optimize_coding = TRUE;
  for (int c = 0; c < info.num_components; ++c) info.comp_info[c].h_samp_factor = info.comp_info[c].v_samp_factor = 1;
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    // libjpeg only reads what its old interface does not call const.
    JSAMPROW rows[] = {const_cast<JSAMPROW>(pixels + 3 * static_cast<size_t>(side) * info.next_scanline)};
    jpeg_write_scanlines(&info, rows, 1);
  }
  jpeg_finish_compress(&info);
  return true;
}

template <size_t N>
bool begins(const jpeg_marker_struct& marker, const char (&with)[N]) {
  return marker.data_length >= N && std::memcmp(marker.data, with, N) == 0;
}

void read_markers(const jpeg_decompress_struct& info, RawImage* out) {
  for (const jpeg_marker_struct* marker = info.marker_list; marker != nullptr; marker = marker->next) {
    if (marker->marker == kApp2 && begins(*marker, kIcc)) out->has_profile = true;
    if (marker->marker != kApp1) continue;
    if (out->exif == 0 && begins(*marker, kExif)) {
      out->exif = exif_orientation(marker->data + sizeof kExif, marker->data_length - sizeof kExif);
    }
    if (out->xmp == 0 && begins(*marker, kXmp)) {
      out->xmp = xmp_orientation(marker->data + sizeof kXmp, marker->data_length - sizeof kXmp);
    }
  }
}

std::vector<uint8_t> tripled(const std::vector<uint8_t>& grey) {
  std::vector<uint8_t> made;
  made.reserve(3 * grey.size());
  for (const uint8_t value : grey) made.insert(made.end(), 3, value);
  return made;
}

Decoded decode(jpeg_decompress_struct& info, Errors& errors, const uint8_t* bytes, size_t size, RawImage* out) {
  if (!read_header(info, errors, bytes, size)) return Decoded::kDamaged;
  if (const Decoded fits = check_size(info.image_width, info.image_height); fits != Decoded::kYes) return fits;
  if (info.num_components != 1 && info.num_components != 3) return Decoded::kUnsupported;
  read_markers(info, out);
  out->width = static_cast<int>(info.image_width);
  out->height = static_cast<int>(info.image_height);
  const bool grey = info.num_components == 1;
  out->pixels.resize(static_cast<size_t>(out->width) * static_cast<size_t>(out->height) * (grey ? 1 : 3));
  if (!read_rows(info, errors, out->pixels.data())) return Decoded::kDamaged;
  if (grey) out->pixels = tripled(out->pixels);
  return Decoded::kYes;
}

jpeg_error_mgr* handlers(Errors& errors) {
  jpeg_std_error(&errors.base);
  errors.base.error_exit = leave;
  errors.base.emit_message = note;
  errors.base.output_message = say_nothing;
  return &errors.base;
}

}  // namespace

bool decodes_jpeg() { return true; }

Decoded decode_jpeg(const uint8_t* bytes, size_t size, RawImage* out) {
  Errors errors = {};
  jpeg_decompress_struct info = {};
  info.err = handlers(errors);
  const Decoded read = decode(info, errors, bytes, size, out);
  jpeg_destroy_decompress(&info);
  return read;
}

std::string encode_jpeg(const uint8_t* pixels, int side) {
  Errors errors = {};
  jpeg_compress_struct info = {};
  info.err = handlers(errors);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  const bool written = write_rows(info, errors, pixels, side, &bytes, &size);
  jpeg_destroy_compress(&info);
  const std::unique_ptr<unsigned char, void (*)(void*)> file(bytes, std::free);
  return written ? std::string(reinterpret_cast<const char*>(bytes), size) : "";
}

}  // namespace topos
