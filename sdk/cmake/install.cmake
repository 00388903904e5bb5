# What `cmake --install` puts where, and how others find it.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

target_include_directories(topos_rt INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
install(TARGETS topos_rt EXPORT topos_rt LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/topos_rt.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/topos_rt)
install(EXPORT topos_rt NAMESPACE topos_rt:: FILE topos_rt-config.cmake DESTINATION ${package})
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/topos_rt-config-version.cmake"
                                 VERSION ${TOPOS_RT_VERSION} COMPATIBILITY SameMajorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/topos_rt-config-version.cmake" DESTINATION ${package})
# The prefix is told from where the file lies, so that `--prefix` and moving it do no harm.
file(RELATIVE_PATH to_prefix "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file(cmake/topos_rt.pc.in topos_rt.pc @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/topos_rt.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
