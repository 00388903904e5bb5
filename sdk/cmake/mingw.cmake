# A toolchain of mingw-w64 for Windows on x86-64; Debian has it as g++-mingw-w64-x86-64-posix:
#   cmake -S . -B build -DTOPOS_SDK=ON -DCMAKE_TOOLCHAIN_FILE=sdk/cmake/mingw.cmake
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
# The kind with threads of POSIX, which std::thread needs.
find_program(CMAKE_C_COMPILER NAMES x86_64-w64-mingw32-gcc-posix x86_64-w64-mingw32-gcc REQUIRED)
find_program(CMAKE_CXX_COMPILER NAMES x86_64-w64-mingw32-g++-posix x86_64-w64-mingw32-g++ REQUIRED)
set(CMAKE_RC_COMPILER x86_64-w64-mingw32-windres)
# Programs of this machine, but headers, libraries and packages of Windows alone: those of mingw-w64, and of
# -DCMAKE_FIND_ROOT_PATH=FOLDER.
list(APPEND CMAKE_FIND_ROOT_PATH /usr/x86_64-w64-mingw32)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# The runtimes of GCC, C++ and threads go into each file, so that a DLL stands alone.
foreach(kind EXE SHARED MODULE)
  set(CMAKE_${kind}_LINKER_FLAGS_INIT "-static")
endforeach()
