// Square pictures as PNG and JPEG files. Twin of topos_rt/formats/textures._file.
#ifndef TOPOS_SDK_PICTURE_FILES_H
#define TOPOS_SDK_PICTURE_FILES_H

#include <cstddef>
#include <cstdint>
#include <string>

namespace topos {

// pixels: [side][side][3]. libspng compresses, where it was found; else the pixels lie in the file as they are.
std::string png_file(const uint8_t* pixels, int side);

// Whether libjpeg-turbo was found; without it jpeg_file returns nothing.
bool encodes_jpeg();
// Of Pillow's quality 92, without subsampling: the bytes of Pillow on the same libjpeg-turbo.
std::string jpeg_file(const uint8_t* pixels, int side);

// What jpeg.cpp and png.cpp have where the libraries were found; an empty string: no memory.
std::string encode_jpeg(const uint8_t* pixels, int side);
std::string encode_png(const uint8_t* pixels, int side);
// A PNG file whose pixels are not compressed.
std::string plain_png(const uint8_t* pixels, int side);

}  // namespace topos

#endif
