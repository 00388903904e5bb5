# Writes the ABI of a library that has debug information, as the types of its headers show it, for abidiff:
#   cmake -D LIBRARY=libtopos_rt.so -D HEADERS=FOLDER -D OUT=FILE.abi -P dump.cmake
# Types that are not in the headers are opaque. Nothing tells of the machine: no paths, no system libraries.
find_program(ABIDW abidw)
if(NOT ABIDW)
  message(FATAL_ERROR "abidw: got none; fix: install Debian's abigail-tools, or libabigail")
endif()
execute_process(
  COMMAND "${ABIDW}" --headers-dir "${HEADERS}" --drop-private-types --exported-interfaces-only
    --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed --no-parameter-names
    --type-id-style hash --out-file "${OUT}" "${LIBRARY}"
  RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "abidw failed on ${LIBRARY}")
endif()
