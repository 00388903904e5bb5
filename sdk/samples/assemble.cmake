# Puts an engine's plugin together from this folder, the library and ONNX Runtime, in a folder of a project:
#
#   cmake -D ENGINE=unity -D OUT=FOLDER -D LIBRARY=libtopos_rt.so -D ORT=libonnxruntime.so -P assemble.cmake
#
# ENGINE: unity or unreal. On Windows LIBRARY is topos_rt.dll, and unreal needs IMPORT_LIBRARY=topos_rt.lib, too.
# ORT goes beside the library, which looks for it there; without ORT the game names or passes its own.
cmake_minimum_required(VERSION 3.20)
foreach(needed ENGINE OUT LIBRARY)
  if(NOT DEFINED ${needed})
    message(FATAL_ERROR "${needed}: got nothing; expected -D ${needed}=...")
  endif()
endforeach()
set(here "${CMAKE_CURRENT_LIST_DIR}")

# Copies a file, or what a link points to, under a name of its own.
function(put from to)
  get_filename_component(folder "${to}" DIRECTORY)
  file(MAKE_DIRECTORY "${folder}")
  get_filename_component(from "${from}" REALPATH)
  configure_file("${from}" "${to}" COPYONLY)
endfunction()

if(ENGINE STREQUAL "unity")
  set(root "${OUT}/com.topos.rt")
  set(binaries "${root}/Runtime/Plugins/x86_64")
  file(COPY "${here}/unity/" DESTINATION "${root}")
  file(GLOB sources "${here}/csharp/ToposRt*.cs")
  file(COPY ${sources} DESTINATION "${root}/Runtime")
elseif(ENGINE STREQUAL "unreal")
  set(root "${OUT}/ToposRt")
  if(LIBRARY MATCHES "\\.dll$")
    set(binaries "${root}/Binaries/ThirdParty/topos_rt/Win64")
  else()
    set(binaries "${root}/Binaries/ThirdParty/topos_rt/Linux")
  endif()
  file(COPY "${here}/unreal/ToposRt" DESTINATION "${OUT}")
  file(COPY "${here}/../include/topos_rt.h" DESTINATION "${root}/Source/ThirdParty/topos_rt/include")
else()
  message(FATAL_ERROR "ENGINE: got ${ENGINE}; expected unity or unreal")
endif()

if(LIBRARY MATCHES "\\.dll$")
  put("${LIBRARY}" "${binaries}/topos_rt.dll")
  if(DEFINED IMPORT_LIBRARY)
    put("${IMPORT_LIBRARY}" "${binaries}/topos_rt.lib")
  endif()
  set(ort_name onnxruntime.dll)
else()
  put("${LIBRARY}" "${binaries}/libtopos_rt.so")
  if(NOT ENGINE STREQUAL "unity")
    put("${LIBRARY}" "${binaries}/libtopos_rt.so.1") # the name that linked modules ask for
  endif()
  set(ort_name libonnxruntime.so)
endif()
if(DEFINED ORT)
  put("${ORT}" "${binaries}/${ort_name}")
endif()
message(STATUS "${root}")
