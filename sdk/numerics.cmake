# topos_numerics: the numbers of a head in C++17, twins of the Python code. It needs neither ONNX Runtime nor Python.
set(TOPOS_NUMERICS_SOURCES
  colour.cpp
  decode.cpp
  detection.cpp
  face.cpp
  face_pose.cpp
  finder.cpp
  glb.cpp
  glb_buffer.cpp
  glb_materials.cpp
  grids.cpp
  head_fit.cpp
  head_problem.cpp
  image.cpp
  json.cpp
  linear.cpp
  morphs.cpp
  noise.cpp
  normals.cpp
  parts.cpp
  picture_files.cpp
  raster.cpp
  resample.cpp
  rig.cpp
  rig_frames.cpp
  rotation.cpp
  solvers.cpp
  streams.cpp
  texture.cpp
  texture_blend.cpp
  texture_colours.cpp
  texture_light.cpp
  texture_look.cpp
  texture_material.cpp
  texture_passes.cpp
  texture_plan.cpp
  texture_reject.cpp
  texture_spectacles.cpp
  warp.cpp
)
list(TRANSFORM TOPOS_NUMERICS_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/src/)
add_library(topos_numerics STATIC ${TOPOS_NUMERICS_SOURCES})
target_include_directories(topos_numerics PUBLIC ${CMAKE_CURRENT_LIST_DIR}/src)
# The passes over texels are those of the Python package.
target_include_directories(topos_numerics SYSTEM PRIVATE ${CMAKE_CURRENT_LIST_DIR}/../csrc)
target_compile_features(topos_numerics PUBLIC cxx_std_17)
set_target_properties(topos_numerics PROPERTIES
  POSITION_INDEPENDENT_CODE ON CXX_EXTENSIONS OFF CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
if(MSVC)
  target_compile_options(topos_numerics PRIVATE /W4 /WX /fp:precise)
else()
  # Public, since headers have code, too. Products are not fused, so that the bits are those of Python on every processor.
  # GCC 12 drops roundings to float32 where it makes vectors of straight-line code: of a[0] = (double)(float)b[0] and the
  # same for a[1] it makes a copy. test_rig.py sees that.
  target_compile_options(topos_numerics
    PUBLIC -ffp-contract=off $<$<CXX_COMPILER_ID:GNU>:-fno-tree-slp-vectorize>
    # Symbols of GNU's unique kind can be neither made local (cmake/static.cmake) nor unloaded.
    $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique>
    PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror)
endif()

# Image files are read where libjpeg-turbo and libspng are found, which decode as Pillow does.
include(CheckCXXSymbolExists)
find_package(JPEG QUIET)
if(JPEG_FOUND)
  set(CMAKE_REQUIRED_INCLUDES ${JPEG_INCLUDE_DIRS})
  check_cxx_symbol_exists(JCS_EXTENSIONS "cstdio;jpeglib.h" TOPOS_JPEG_IS_TURBO)
  unset(CMAKE_REQUIRED_INCLUDES)
endif()
set(TOPOS_HAS_JPEG FALSE)
set(TOPOS_HAS_SPNG FALSE)
if(JPEG_FOUND AND TOPOS_JPEG_IS_TURBO)
  set(TOPOS_HAS_JPEG TRUE)
  target_sources(topos_numerics PRIVATE ${CMAKE_CURRENT_LIST_DIR}/src/jpeg.cpp)
  target_compile_definitions(topos_numerics PRIVATE TOPOS_WITH_JPEG)
  target_link_libraries(topos_numerics PRIVATE JPEG::JPEG)
endif()
find_path(SPNG_INCLUDE_DIR spng.h)
find_library(SPNG_LIBRARY spng)
if(SPNG_INCLUDE_DIR AND SPNG_LIBRARY)
  set(TOPOS_HAS_SPNG TRUE)
  target_sources(topos_numerics PRIVATE ${CMAKE_CURRENT_LIST_DIR}/src/png.cpp)
  target_compile_definitions(topos_numerics PRIVATE TOPOS_WITH_PNG)
  target_include_directories(topos_numerics SYSTEM PRIVATE ${SPNG_INCLUDE_DIR})
  target_link_libraries(topos_numerics PRIVATE ${SPNG_LIBRARY})
endif()
