# topos_numerics: the numbers of a head in C++17, twins of the Python code. It needs neither ONNX Runtime nor Python.
set(TOPOS_NUMERICS_SOURCES
  detection.cpp
  face.cpp
  face_pose.cpp
  finder.cpp
  glb.cpp
  glb_buffer.cpp
  glb_materials.cpp
  head_fit.cpp
  head_problem.cpp
  image.cpp
  json.cpp
  linear.cpp
  morphs.cpp
  noise.cpp
  normals.cpp
  parts.cpp
  resample.cpp
  rig.cpp
  rig_frames.cpp
  rotation.cpp
  solvers.cpp
  streams.cpp
  warp.cpp
)
list(TRANSFORM TOPOS_NUMERICS_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/src/)
add_library(topos_numerics STATIC ${TOPOS_NUMERICS_SOURCES})
target_include_directories(topos_numerics PUBLIC ${CMAKE_CURRENT_LIST_DIR}/src)
target_compile_features(topos_numerics PUBLIC cxx_std_17)
set_target_properties(topos_numerics PROPERTIES
  POSITION_INDEPENDENT_CODE ON CXX_EXTENSIONS OFF CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
if(MSVC)
  target_compile_options(topos_numerics PRIVATE /W4 /WX /fp:precise)
else()
  # Products are not fused, so that the bits are those of Python on every processor.
  target_compile_options(topos_numerics PRIVATE -ffp-contract=off
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror
    # GCC 12 leaves out a rounding to float32 and back where it makes vectors of straight-line code; test_rig.py sees it.
    $<$<CXX_COMPILER_ID:GNU>:-fno-tree-slp-vectorize>)
endif()
