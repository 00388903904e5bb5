# What `cmake --install` puts where, and how others find it. The components `development`, `shared` and
# `static` can be installed one by one.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/topos_rt)
target_include_directories(topos_rt INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
install(TARGETS topos_rt EXPORT topos_rt-shared
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT shared
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT shared
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT shared)
install(EXPORT topos_rt-shared NAMESPACE topos_rt:: DESTINATION ${package} COMPONENT shared)
if(TARGET topos_rt_static)
  target_include_directories(topos_rt_static INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  install(TARGETS topos_rt_static EXPORT topos_rt-static
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT static)
  install(EXPORT topos_rt-static NAMESPACE topos_rt:: DESTINATION ${package} COMPONENT static)
endif()
install(FILES include/topos_rt.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)

configure_file(cmake/topos_rt-config.cmake.in topos_rt-config.cmake @ONLY)
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/topos_rt-config-version.cmake"
                                 VERSION ${TOPOS_RT_VERSION} COMPATIBILITY SameMajorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/topos_rt-config.cmake"
              "${CMAKE_CURRENT_BINARY_DIR}/topos_rt-config-version.cmake"
        DESTINATION ${package} COMPONENT development)
# The prefix is told from where the file lies, so that `--prefix` and moving it do no harm.
file(RELATIVE_PATH to_prefix "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file(cmake/topos_rt.pc.in topos_rt.pc @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/topos_rt.pc"
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
