# The ABI of the library, for libabigail (Debian: abigail-tools):
#   cmake --build build --target topos_rt_abi          a library like the shared one, with debug information
#   cmake --build build --target topos_rt_abi_dump      writes its ABI to abi/topos_rt_1.abi: for releases
# tests/sdk/test_abi.py compares the two. Nobody ships that library, so that nothing else needs debug
# information, which the functions of the header alone get here: their objects know every type that a program
# sees.
if(NOT UNIX OR APPLE)
  return()
endif()
add_library(topos_api_debug OBJECT EXCLUDE_FROM_ALL ${TOPOS_API_SOURCES})
topos_objects(topos_api_debug)
target_compile_definitions(topos_api_debug PRIVATE TOPOS_RT_BUILD)
target_compile_options(topos_api_debug PRIVATE -g -O0 "-ffile-prefix-map=${PROJECT_SOURCE_DIR}/=")
topos_shared(topos_rt_abi topos_api_debug EXCLUDE_FROM_ALL)
set_target_properties(topos_rt_abi PROPERTIES
  OUTPUT_NAME topos_rt LIBRARY_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/abi")
add_custom_target(topos_rt_abi_dump
  COMMAND "${CMAKE_COMMAND}" -D LIBRARY=$<TARGET_FILE:topos_rt_abi>
    -D "HEADERS=${CMAKE_CURRENT_SOURCE_DIR}/include"
    -D "OUT=${CMAKE_CURRENT_SOURCE_DIR}/abi/topos_rt_1.abi" -P "${CMAKE_CURRENT_SOURCE_DIR}/abi/dump.cmake"
  DEPENDS topos_rt_abi VERBATIM)
