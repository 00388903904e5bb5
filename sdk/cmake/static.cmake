# The static library: one archive, so that a program links one file.
#
# Where GNU's binutils are, its objects become a single one, in which only topos_* is global: a program may
# have a `topos::Json` or another version of a template of ours, and neither meets the other. The price is
# that a linker takes all of it or nothing. Groups of sections are dissolved before, since a linker that finds
# the same group in the program would drop ours, and with it what our own code, now local, refers to.
# Elsewhere the C++ names stay visible to the linker.
set(objects $<TARGET_OBJECTS:topos_core> $<TARGET_OBJECTS:topos_numerics>)
if(WIN32)
  # Functions that are marked as exported would be exports of the program, too.
  add_library(topos_api_static OBJECT ${TOPOS_API_SOURCES})
  topos_objects(topos_api_static)
  target_compile_definitions(topos_api_static PRIVATE TOPOS_RT_STATIC)
  list(APPEND objects $<TARGET_OBJECTS:topos_api_static>)
else()
  list(APPEND objects $<TARGET_OBJECTS:topos_api>)
endif()

set(TOPOS_STATIC_IS_ONE_OBJECT FALSE)
if(UNIX AND NOT APPLE AND CMAKE_LINKER AND CMAKE_OBJCOPY)
  execute_process(COMMAND "${CMAKE_LINKER}" --version OUTPUT_VARIABLE linker ERROR_QUIET)
  if(linker MATCHES "^GNU ld")
    set(TOPOS_STATIC_IS_ONE_OBJECT TRUE)
  endif()
endif()
if(TOPOS_STATIC_IS_ONE_OBJECT)
  set(one "${CMAKE_CURRENT_BINARY_DIR}/topos_rt.o")
  add_custom_command(OUTPUT "${one}"
    COMMAND "${CMAKE_LINKER}" -r --force-group-allocation -o "${one}" ${objects}
    COMMAND "${CMAKE_OBJCOPY}" --wildcard "--keep-global-symbol=topos_*" "${one}"
    DEPENDS topos_api topos_core topos_numerics ${objects} COMMAND_EXPAND_LISTS VERBATIM)
  set_source_files_properties("${one}" PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  set(objects "${one}")
endif()

add_library(topos_rt_static STATIC ${objects})
set_target_properties(topos_rt_static PROPERTIES LINKER_LANGUAGE CXX)
if(NOT MSVC) # there topos_rt.lib is what links the DLL
  set_target_properties(topos_rt_static PROPERTIES OUTPUT_NAME topos_rt)
endif()
target_compile_definitions(topos_rt_static INTERFACE TOPOS_RT_STATIC)
target_include_directories(topos_rt_static INTERFACE $<BUILD_INTERFACE:${CMAKE_CURRENT_LIST_DIR}/../include>)

# What the program links besides. The runtime of C++ is named, so that a program in C needs no C++ compiler.
set(TOPOS_STATIC_LIBRARIES ${CMAKE_CXX_IMPLICIT_LINK_LIBRARIES})
if(CMAKE_C_IMPLICIT_LINK_LIBRARIES)
  list(REMOVE_ITEM TOPOS_STATIC_LIBRARIES ${CMAKE_C_IMPLICIT_LINK_LIBRARIES})
endif()
list(APPEND TOPOS_STATIC_LIBRARIES ${CMAKE_DL_LIBS})
if(TOPOS_HAS_SPNG)
  list(PREPEND TOPOS_STATIC_LIBRARIES spng)
endif()
target_link_libraries(topos_rt_static INTERFACE
  $<$<BOOL:${TOPOS_HAS_JPEG}>:JPEG::JPEG> ${TOPOS_STATIC_LIBRARIES} Threads::Threads)
if(TOPOS_HAS_JPEG)
  list(PREPEND TOPOS_STATIC_LIBRARIES jpeg)
endif()
list(TRANSFORM TOPOS_STATIC_LIBRARIES PREPEND -l)
list(APPEND TOPOS_STATIC_LIBRARIES ${CMAKE_THREAD_LIBS_INIT})
list(JOIN TOPOS_STATIC_LIBRARIES " " TOPOS_STATIC_LIBRARIES)
add_library(topos_rt::topos_rt_static ALIAS topos_rt_static)
